"""Which tables and figures are reproduced here, and how are they run again?"""

from __future__ import annotations

from refimpl.experiments.runner import run
from refimpl.experiments.summary import summarize, write_summary

__all__ = ["run", "summarize", "write_summary"]

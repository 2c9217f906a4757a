"""Which weights matter? A saliency scores every weight; larger = keep."""

from __future__ import annotations

from refimpl.saliency.magnitude import magnitude, random

__all__ = ["magnitude", "random"]

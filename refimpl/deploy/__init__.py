"""How is a pruned network shipped?"""

from __future__ import annotations

from refimpl.deploy.sparsify import sparsify, weight_bytes

__all__ = ["sparsify", "weight_bytes"]

"""What shape is removed? A mask says of every weight whether it stays; True = kept."""

from __future__ import annotations

from refimpl.masks.select import count_kept, global_unstructured, keep_top_k, unstructured

__all__ = ["count_kept", "global_unstructured", "keep_top_k", "unstructured"]

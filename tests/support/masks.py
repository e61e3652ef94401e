"""Masks out of run lengths."""

from __future__ import annotations

from typing import Any

from pycocotools import mask as coco_mask


def mask_of(run_lengths: dict[str, Any]) -> Any:
    """Return a mask in COCO's compressed run lengths as 0 and 1, (H, W)."""
    return coco_mask.decode(run_lengths)  # type: ignore[arg-type] # counts as text

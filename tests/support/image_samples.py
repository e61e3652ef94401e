"""Image files of every supported format and mode with the pixels that they mean, and bad ones."""

from __future__ import annotations

from functools import cache

from support.bad_images import bad_images
from support.good_heif_images import good_heif_images
from support.good_images import good_images
from support.good_tiff_images import good_tiff_images
from support.image_references import BadSample, GoodSample
from support.rare_images import rare_images

__all__ = ["BadSample", "GoodSample", "bad_samples", "good_samples"]


@cache
def good_samples() -> dict[str, GoodSample]:
    """Return every good file by name."""
    groups = (good_images, good_tiff_images, good_heif_images, rare_images)
    return {name: sample for group in groups for name, sample in group()}


@cache
def bad_samples() -> dict[str, BadSample]:
    """Return every bad file by name."""
    return dict(bad_images(good_samples()))

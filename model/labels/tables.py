"""Read the label tables beside this file."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

Color = tuple[int, int, int]
"""Red, green and blue, each from 0 to 255."""


@cache
def imagenet_labels() -> tuple[str, ...]:
    """Return the 1000 ImageNet-1K class names in the order of the class ids."""
    return tuple(name for _, name in _rows("imagenet1k.tsv"))


@cache
def imagenet_wordnet_ids() -> tuple[str, ...]:
    """Return the WordNet ids of the same classes: ImageNet's folders have their names."""
    return tuple(wordnet_id for wordnet_id, _ in _rows("imagenet1k.tsv"))


@cache
def ade20k_labels() -> tuple[str, ...]:
    """Return the 150 ADE20K class names in the order of the class ids."""
    return tuple(name for name, _ in _rows("ade20k.tsv"))


@cache
def ade20k_palette() -> tuple[Color, ...]:
    """Return the data set's own 150 colours in the order of the class ids."""
    return tuple(_color(code) for _, code in _rows("ade20k.tsv"))


@cache
def coco_labels() -> tuple[str, ...]:
    """Return the 80 COCO class names in the order of the class ids."""
    return tuple(name for (name,) in _rows("coco.tsv"))


def _rows(table_name: str) -> list[list[str]]:
    table = (files("model.labels") / table_name).read_text(encoding="utf-8")
    return [line.split("\t") for line in table.splitlines()]


def _color(code: str) -> Color:
    """Parse a colour of the form #rrggbb."""
    red, green, blue = bytes.fromhex(code.removeprefix("#"))
    return red, green, blue

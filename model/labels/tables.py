"""Reads the label tables that lie beside this file."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def imagenet_labels() -> tuple[str, ...]:
    """Return the 1000 ImageNet-1K class names in the order of the class ids."""
    table = (files("model.labels") / "imagenet1k.tsv").read_text(encoding="utf-8")
    return tuple(line.split("\t")[1] for line in table.splitlines())

"""Class names and colours as checkpoints of several makes state them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from model.checkpoints.class_table import (
    ClassTable,
    ClassTableError,
    as_metadata,
    classes_from_meta,
    classes_from_metadata,
)

NAMES = ("wall", "sky")
COLORS = ((120, 120, 120), (6, 230, 230))
WANT = ClassTable(NAMES, COLORS)


@pytest.mark.parametrize(
    "meta",
    [
        {"CLASSES": NAMES, "PALETTE": [list(color) for color in COLORS]},
        {"dataset_meta": {"classes": NAMES, "palette": COLORS}, "cfg": "model = ..."},
    ],
    ids=["mmsegmentation", "mmengine"],
)
def test_names_and_colours_are_read_from_meta(meta: dict[str, Any]) -> None:
    assert classes_from_meta({"meta": meta, "state_dict": {}}) == WANT


def test_colours_may_be_missing() -> None:
    assert classes_from_meta({"meta": {"CLASSES": NAMES, "PALETTE": None}}) == ClassTable(NAMES)


@pytest.mark.parametrize(
    "contents", [{}, {"meta": {}}, {"meta": "text"}, {"meta": {"dataset_meta": 3}}, [1], None]
)
def test_a_checkpoint_that_says_nothing_gives_nothing(contents: Any) -> None:
    assert classes_from_meta(contents) == ClassTable()


@pytest.mark.parametrize(
    ("meta", "reason"),
    [
        ({"CLASSES": "wall"}, "no list of class names"),
        ({"CLASSES": [1, 2]}, "no list of class names"),
    ],
)
def test_nonsense_is_refused(meta: dict[str, Any], reason: str) -> None:
    with pytest.raises(ClassTableError, match=reason):
        classes_from_meta({"meta": meta})


@pytest.mark.parametrize(
    "palette", ["random", 7, [], [[1, 2]], [["red", 2, 3]], [[1, 2, 256]], [[-1, 2, 3]]]
)
def test_a_palette_that_is_none_counts_as_not_stated(palette: Any) -> None:
    stated = classes_from_meta({"meta": {"CLASSES": NAMES, "PALETTE": palette}})
    assert stated.labels == NAMES
    assert not stated.palette


def test_names_are_read_from_our_own_metadata() -> None:
    assert classes_from_metadata({"labels": json.dumps(NAMES)}) == ClassTable(NAMES)
    assert classes_from_metadata({"note": "nothing"}) == ClassTable()


@pytest.mark.parametrize("classes", [ClassTable(), ClassTable(NAMES), WANT])
def test_our_own_metadata_are_read_as_they_were_written(classes: ClassTable) -> None:
    assert classes_from_metadata(as_metadata(classes)) == classes


def test_metadata_whose_colours_are_no_json_are_refused() -> None:
    with pytest.raises(ClassTableError, match="palette entry is no JSON"):
        classes_from_metadata({"palette": "[["})

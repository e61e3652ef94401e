"""The table of image files in docs/api.md says what the decoder does."""

from __future__ import annotations

import re

import pytest

from service.images.containers import bmp_runs, boxes, first_frame, gif, heif, jpeg
from service.images.decode import SUPPORTED_MEDIA_TYPES
from service.images.preparation import MAX_IMAGE_SIDE
from service.images.signatures import REFUSED_SIGNATURES, SUFFIXES, SUPPORTED_SIGNATURES
from support.documents import text_of
from support.undecoded_images import undecoded_images

API = text_of("docs/api.md")
SECTION = API.partition("## Image files")[2].partition("\n## ")[0]
TABLE = [
    [cell.strip() for cell in line[1:-1].split("|")]
    for line in SECTION.splitlines()
    if line.startswith("| ") and not line.startswith("| format")
]
ROWS = {cells[0].partition(",")[0].upper(): cells for cells in TABLE}
"""The cells of each row, by the format's name."""


ALIKE = {"heif": "HEIC", "bigtiff": "TIFF"}
SHORTER = {"9 values in tag 258": "tags with too many values"}


def test_every_format_has_a_row_with_its_suffixes() -> None:
    assert SUPPORTED_SIGNATURES.keys() == SUFFIXES.keys() == set(SUPPORTED_MEDIA_TYPES.values())
    assert ROWS.keys() == {*SUFFIXES, "OTHERS"}
    for name, suffixes in SUFFIXES.items():
        assert tuple(re.findall(r"`(\.\w+)`", ROWS[name][1])) == suffixes


def test_every_media_type_is_named() -> None:
    line = next(line for line in API.splitlines() if line.startswith("| the file itself |"))
    assert re.findall(r"`([^`]+)`", line) == list(SUPPORTED_MEDIA_TYPES)


@pytest.mark.parametrize(
    ("name", "kind"), [pytest.param(name, kind, id=name) for name, _, kind in undecoded_images()]
)
def test_a_kind_that_is_not_read_is_in_its_row(name: str, kind: str) -> None:
    format_name = ALIKE.get(name.partition("-")[0], name.partition("-")[0].upper())
    told = f"{ROWS.get(format_name, [''])[-1]} {ROWS['OTHERS'][-1]}".lower()
    # The row has one sentence for kinds that differ in a number, or a word for a type.
    word = re.sub(r" ?\d+$", "", SHORTER.get(kind, kind).removeprefix("type "))
    assert all(part in told for part in word.lower().split(" or "))


def test_formats_known_by_name_are_formats() -> None:
    named = ROWS["OTHERS"][-1].partition(": ")[2].removesuffix(" and more").split(", ")
    known = " ".join(REFUSED_SIGNATURES)
    assert [name for name in named if name not in known] == []


def test_the_limits_are_those_of_the_readers() -> None:
    for limit in (
        f"{MAX_IMAGE_SIDE:,} pixels on a side",
        f"{jpeg.MAX_SCANS} scans",
        f"{first_frame.MAX_PIECES:,} chunks",
        f"{gif.MAX_SUB_BLOCKS:,} pieces",
        f"{heif.MAX_TILES:,} tiles",
        f"{boxes.MAX_ITEMS:,} items",
    ):
        assert limit in SECTION.replace("\n", " ")
    assert gif.MAX_SUB_BLOCKS == bmp_runs.MAX_RUNS

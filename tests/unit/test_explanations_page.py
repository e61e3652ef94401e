"""docs/explanations.md says of the colours what is measured."""

from __future__ import annotations

import re

import cv2
import numpy as np

from service.answers.drawing import color_scale
from service.answers.drawing.heat_maps import OPACITY
from support.color_vision import VISIONS, cielab
from support.documents import text_of

PAGE = text_of("docs/explanations.md")


def rows() -> list[list[str]]:
    """Return the table of tables without its head."""
    lines = re.findall(r"^\| (\w+ \|.*) (?:yes|no) \|$", PAGE, re.MULTILINE)
    ends = re.findall(r"(yes|no) \|$", PAGE, re.MULTILINE)
    return [[*line.rstrip(" |").split(" | "), end] for line, end in zip(lines, ends, strict=True)]


def measured(name: str) -> list[str]:
    levels = np.arange(0, 256, 15, dtype=np.uint8)[None]
    table = cv2.applyColorMap(levels, getattr(cv2, f"COLORMAP_{name.upper()}"))[0, :, ::-1]
    seen = [cielab(table.astype(float), vision) for vision in VISIONS]
    steps = [np.linalg.norm(np.diff(each, axis=0), axis=1) for each in seen]
    unevenness = max(each.max() / each.min() for each in steps)
    rises = min(np.diff(each[:, 0]).min() for each in seen) > 0
    numbers = [*(each.min() for each in steps), unevenness]
    return [name, *(f"{number:.1f}" for number in numbers), "yes" if rises else "no"]


def test_the_table_of_colours_is_what_is_measured() -> None:
    assert len(rows()) == 7
    assert rows() == [measured(name) for name, *_ in rows()]


def test_the_table_that_is_taken_is_the_best_of_those_whose_lightness_rises() -> None:
    rising = [row for row in rows() if row[-1] == "yes"]
    best = max(rising, key=lambda row: min(map(float, row[1:5])))
    assert best == min(rising, key=lambda row: float(row[5]))
    assert getattr(cv2, f"COLORMAP_{best[0].upper()}") == color_scale.TABLE


def test_the_share_of_the_colours_is_that_of_the_code() -> None:
    assert f"The colours have {100 * OPACITY:.0f} % of a pixel" in PAGE
    assert color_scale.MIN_SPAN_LOGITS == 1  # "spread over at least one logit"
    assert "spread over at least one logit" in PAGE

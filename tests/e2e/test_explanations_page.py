from __future__ import annotations

import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from support.documents import ROOT, run_curl, text_of
from support.running_service import CLIENT, RunningService

PAGE = "docs/explanations.md"


def test_the_picture_is_the_one_that_the_page_shows(demo: RunningService) -> None:
    with (
        Image.open(io.BytesIO(run_curl(PAGE, "/v1/explain", demo.port))) as got,
        Image.open(ROOT / "docs" / "images" / "star-explained.png") as shown,
    ):
        assert got.size == shown.size
        difference = np.abs(np.asarray(got, np.int16) - np.asarray(shown, np.int16)).max(axis=2)
    # Another processor's rounding may move a colour by a level of the table.
    assert (difference <= 3).mean() > 0.99


def test_the_numbers_that_the_page_tells_are_those_of_the_map(demo: RunningService) -> None:
    star = (ROOT / "docs" / "images" / "star.png").read_bytes()
    answer = CLIENT.post(f"{demo.url}/v1/explain", content=star)
    (found,) = json.loads(answer.content)["maps"]
    told = re.search(
        r"(\d+) values from (-?[\d.]+) to ([\d.]+) have the mean ([\d.]+), and ([\d.]+) is",
        text_of(PAGE),
    )
    assert told is not None
    values = np.array(found["focus"])
    measured = [values.size, values.min(), values.max(), values.mean(), found["logit"]]
    assert [float(number) for number in told.groups()] == pytest.approx(measured, abs=0.02)

from __future__ import annotations

from typing import Any

import pytest

from service.commands.batch.failure_limit import failure_limit_of
from service.commands.batch.summary import stopped_line, summary_line

GOOD: dict[str, Any] = {"images": 5000, "failed": {}}
BAD: dict[str, Any] = {"images": 5000, "failed": {"invalid-image": 1, "unreadable": 2}}


@pytest.mark.parametrize(
    ("manifest", "done", "expected"),
    [
        (GOOD, 5000, "5000 images at 200 a second; none failed; results in d."),
        (GOOD, 1000, "5000 images at 40 a second, 4000 of them before; none failed; results in d."),
        (GOOD, 0, "5000 images, all of them before; none failed; results in d."),
        (
            BAD,
            5000,
            "5000 images at 200 a second; 3 failed (invalid-image 1, unreadable 2); results in d.",
        ),
        ({"images": 0, "failed": {}}, 0, "0 images; none failed; results in d."),
        ({"images": 1, "failed": {}}, 1, "1 image at 0.04 a second; none failed; results in d."),
    ],
)
def test_a_run_ends_with_one_line(manifest: dict[str, Any], done: int, expected: str) -> None:
    assert summary_line(manifest, "d", done, 25.0) == expected


def test_a_data_set_is_named_beside_the_results() -> None:
    assert summary_line(GOOD, "d", 0, 0.0, "yolo").endswith("; results in d, yolo beside them.")


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("0", "3 failed (invalid-image 3); results"),
        ("3", "3 failed (invalid-image 3); results"),
        ("2", "3 failed (invalid-image 3), more than --max-failed 2; results"),
        ("29%", "3 failed (invalid-image 3), more than --max-failed 29%; results"),
    ],
)
def test_a_limit_that_is_exceeded_is_named(limit: str, words: str) -> None:
    manifest = {"images": 10, "failed": {"invalid-image": 3}}
    assert words in summary_line(manifest, "d", 10, 25.0, failure_limit=failure_limit_of(limit))


def test_a_stopped_run_says_how_much_is_done() -> None:
    assert stopped_line(4, 10) == (
        "Stopped with 4 of 10 images done; the same command continues it."
    )

from __future__ import annotations

import pytest

from service.commands.batch.failure_limit import failure_limit_of
from service.commands.console.exits import RefusedError


@pytest.mark.parametrize(
    ("text", "failed", "images", "allowed"),
    [
        ("0", 0, 10, True),
        ("0", 1, 10, False),
        ("2", 2, 3, True),
        ("2", 3, 1000, False),
        ("1%", 10, 1000, True),
        ("1%", 11, 1000, False),
        ("0.5%", 1, 199, False),
        ("100%", 7, 7, True),
    ],
)
def test_a_limit_is_a_number_or_a_percentage(
    text: str, failed: int, images: int, allowed: bool
) -> None:
    assert failure_limit_of(text).allows(failed, images) is allowed


@pytest.mark.parametrize("text", ["", "-1", "1.5", "101%", "a few", "%", "1e3"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(RefusedError, match="--max-failed is"):
        failure_limit_of(text)

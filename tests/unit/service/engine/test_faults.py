"""An error of a start begins with the setting to change."""

from __future__ import annotations

import pytest

from model.config import Task
from model.images.input_config import InputOptionError
from service.engine.faults import blaming
from service.settings import ModelSpec

SPEC = ModelSpec(
    "birds",
    Task.CLASSIFY,
    "overlock_t",
    "birds.pth",
    blames={"weights": "m.toml, [birds] weights", "mean": "m.toml, [birds] mean"},
)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("birds.pth is empty."), r"\[birds\] weights: birds\.pth is empty\."),
        (InputOptionError("mean", "states 2 channels"), r"\[birds\] mean: mean states 2 channels"),
    ],
)
def test_the_value_that_is_wrong_is_blamed(error: ValueError, message: str) -> None:
    refused = pytest.raises(ValueError, match=rf"^m\.toml, {message}")
    with refused, blaming(SPEC.blame("weights"), SPEC):
        raise error

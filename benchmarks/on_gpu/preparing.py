"""Preparation of a predictor, the seconds of its steps apart."""

from __future__ import annotations

from benchmarks.on_gpu.bench import Row
from model.inference.execution import PreparationSeconds
from model.inference.predictor import Predictor


class FallbackError(Exception):
    """A simpler form than the wanted one would be measured."""


def prepare(predictor: Predictor, shape: tuple[int, int, int]) -> PreparationSeconds:
    """Prepare a predictor for a batch's shape, and run it once.

    Raises:
        FallbackError: if a step failed that a service would do without.
    """
    seconds = predictor.prepare(shape)
    if predictor.fallbacks:
        raise FallbackError(
            "; ".join(f"{each.what}: {each.reason}" for each in predictor.fallbacks)
        )
    predictor.dry_run(shape)
    return seconds


def seconds_row(seconds: PreparationSeconds) -> Row:
    """Return the columns of a row."""
    return {
        "measuring s": seconds.measuring,
        "compiling s": seconds.compiling,
        "recording s": seconds.recording,
    }

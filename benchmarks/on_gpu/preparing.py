"""Preparation of a predictor, the seconds of its steps apart."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from unittest import mock

from benchmarks.on_gpu.bench import Row, stopwatch
from model.inference import predictor as predictor_module
from model.inference.compiled import CompiledModule
from model.inference.cuda_graphs import RecordedModule
from model.inference.predictor import Predictor


@dataclass
class PreparationSeconds:
    """Seconds that the preparation of a batch's shape took, by step."""

    measuring: float = 0.0
    compiling: float = 0.0
    recording: float = 0.0

    def as_row(self) -> Row:
        """Return the columns of a row."""
        return {
            "measuring s": self.measuring,
            "compiling s": self.compiling,
            "recording s": self.recording,
        }


def prepare(predictor: Predictor, shape: tuple[int, int, int]) -> PreparationSeconds:
    """Prepare a predictor for a batch's shape, and run it once."""
    seconds = PreparationSeconds()

    def timed(step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            took = stopwatch()
            result = function(*arguments)
            setattr(seconds, step, getattr(seconds, step) + took())
            return result

        return run

    with ExitStack() as patches:
        for owner, name, step in (
            (predictor_module, "tune", "measuring"),
            (CompiledModule, "prepare", "compiling"),
            (RecordedModule, "prepare", "recording"),
        ):
            replacement = timed(step, getattr(owner, name))
            patches.enter_context(mock.patch.object(owner, name, replacement))
        predictor.prepare(shape)
    predictor.dry_run(shape)
    return seconds

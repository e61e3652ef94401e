from __future__ import annotations

import copy

import torch

from benchmarks.on_gpu.networks import trained
from benchmarks.on_gpu.preparing import prepare
from model.inference.predictor import Predictor
from model.lowering.folding import fold


def test_the_seconds_of_compiling_are_apart() -> None:
    network = fold(copy.deepcopy(trained("nano")))
    eager = Predictor(copy.deepcopy(network), torch.device("cpu"), torch.float32)
    assert prepare(eager, (1, 64, 64)).as_row() == {
        "measuring s": 0.0,
        "compiling s": 0.0,
        "recording s": 0.0,
    }
    traced = Predictor(network, torch.device("cpu"), torch.float32, compiler="eager")
    seconds = prepare(traced, (1, 64, 64))
    assert seconds.compiling > 0.0
    assert (seconds.measuring, seconds.recording) == (0.0, 0.0)

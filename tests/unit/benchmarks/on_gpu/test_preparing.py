from __future__ import annotations

import copy

import pytest
import torch

from benchmarks.on_gpu.networks import trained
from benchmarks.on_gpu.preparing import prepare
from model.inference.compiled import CompiledModule
from model.inference.predictor import Predictor
from model.lowering.folding import fold


def test_the_seconds_of_compiling_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[torch.Size] = []
    monkeypatch.setattr(
        CompiledModule, "prepare", lambda _, pixels, sizes: compiled.append(pixels.shape)
    )
    network = fold(copy.deepcopy(trained("nano")))
    cpu = torch.device("cpu")
    traced = Predictor(copy.deepcopy(network), cpu, torch.float32, compiler="eager")
    seconds = prepare(traced, (1, 64, 64))
    assert compiled == [(1, 64, 64, 3)]
    assert seconds.compiling > 0.0
    assert (seconds.measuring, seconds.recording) == (0.0, 0.0)
    eager = Predictor(network, cpu, torch.float32)
    assert set(prepare(eager, (1, 64, 64)).as_row().values()) == {0.0}

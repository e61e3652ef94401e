from __future__ import annotations

import copy

import pytest
import torch

from benchmarks.on_gpu.networks import trained
from benchmarks.on_gpu.preparing import FallbackError, prepare, seconds_row
from model.inference.predictor import Predictor
from model.kernels.gpu.failures import Fallback
from model.lowering.folding import fold


def predictor() -> Predictor:
    return Predictor(fold(copy.deepcopy(trained("nano"))), torch.device("cpu"), torch.float32)


def test_the_seconds_of_each_step_are_apart() -> None:
    columns = seconds_row(prepare(predictor(), (1, 64, 64)))
    assert list(columns) == ["measuring s", "compiling s", "recording s"]


def test_a_simpler_form_is_not_measured_in_the_place_of_another() -> None:
    fallen = predictor()
    fallen.execution.fallbacks.append(Fallback("record", "no"))
    with pytest.raises(FallbackError, match="record: no"):
        prepare(fallen, (1, 64, 64))

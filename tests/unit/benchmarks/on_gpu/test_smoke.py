"""The first look finds a wrong kernel, and its references are the kernels' specification."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.on_gpu import kernel_checks, smoke
from benchmarks.on_gpu.bench import Bench, relative_error
from benchmarks.on_gpu.kernel_checks import DEPTHWISE, MIXING, unfolded_depthwise, unfolded_mixing
from benchmarks.on_gpu.problems import DepthwiseProblem, MixingProblem
from model.kernels.context_mixing import context_mixing
from model.kernels.large_depthwise import large_depthwise_reference
from model.kernels.squeeze_excite import squeeze_excite

BENCH = Bench(torch.device("cpu"), quick=True)


@pytest.mark.parametrize("problem", DEPTHWISE, ids=str)
def test_unfolded_windows_give_a_depthwise_convolution(problem: DepthwiseProblem) -> None:
    features, weight, bias, _ = problem.arguments(torch.float64, torch.device("cpu"))
    want = large_depthwise_reference(features, weight, bias)
    torch.testing.assert_close(unfolded_depthwise(features, weight, bias), want)


@pytest.mark.parametrize("problem", MIXING, ids=str)
def test_unfolded_windows_give_context_mixing(problem: MixingProblem) -> None:
    arguments = problem.arguments(torch.float64, torch.device("cpu"), torch.channels_last)
    want = context_mixing(*arguments, implementation="tiles")
    assert relative_error(unfolded_mixing(*arguments), want) < 1e-12  # float64


def test_the_first_wrong_kernel_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    right = squeeze_excite

    def wrong(*arguments: Any) -> Tensor:
        return right(*arguments) * 1.01

    monkeypatch.setattr(kernel_checks, "squeeze_excite", wrong)
    rows = smoke.rows(BENCH)
    assert next(rows)["verdict"] == "WRONG"
    with pytest.raises(smoke.SmokeError, match="squeeze-excite"):
        next(rows)

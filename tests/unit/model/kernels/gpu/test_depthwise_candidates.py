"""A problem becomes candidates that can be timed, and the table chooses the fastest."""

from __future__ import annotations

import pytest
import torch

from model.kernels.gpu.autotune import Autotuner
from model.kernels.gpu.depthwise_candidates import depthwise_candidates
from model.kernels.gpu.timing import seconds_of
from model.kernels.large_depthwise import FLOAT_TILES, MATRIX_TILES, PAIRED_TILES, depthwise_problem


@pytest.mark.parametrize("with_sums", [False, True])
def test_candidates_solve_the_problem(with_sums: bool) -> None:
    features = torch.empty(2, 5, 9, 8, dtype=torch.bfloat16)
    candidates = depthwise_candidates(depthwise_problem(features, 7, with_sums=with_sums), 2)
    assert [*candidates] == ["plain"]  # a CPU has no other
    solution = candidates["plain"]()
    convolved = solution[0] if isinstance(solution, tuple) else solution
    assert isinstance(convolved, torch.Tensor)
    assert (convolved.shape, convolved.dtype) == (features.shape, features.dtype)
    assert convolved.is_contiguous(memory_format=torch.channels_last)
    assert isinstance(solution, tuple) == with_sums


def test_a_gpus_candidates_are_all_tiles_of_the_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "model.kernels.gpu.depthwise_candidates.triton_unsupported_reason", lambda *_: None
    )
    problem = depthwise_problem(torch.empty(2, 5, 9, 8), 7, with_sums=False)
    assert [*depthwise_candidates(problem, 2)] == ["plain", *FLOAT_TILES]


def test_a_problem_is_measured_on_its_own_device_with_numbers_of_its_own() -> None:
    problem = depthwise_problem(torch.empty(2, 5, 9, 8, device="meta"), 7, with_sums=False)
    # The second of two GPUs is not the first; the default generator may be unusable.
    assert torch.device("meta") in problem
    state = torch.get_rng_state()
    depthwise_candidates(depthwise_problem(torch.empty(2, 5, 9, 8), 7, with_sums=False), 2)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.gpu
def test_gpu_decides_by_its_own_time() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device: it is its time that is measured")
    device = torch.device("cuda")
    features = torch.empty(4, 64, 56, 56, dtype=torch.bfloat16, device=device)
    problem = depthwise_problem(features, 17, with_sums=True)
    autotuner = Autotuner()
    candidates = depthwise_candidates(problem, 4)
    decision = autotuner.measure(problem, candidates, lambda run: seconds_of([run], device))
    assert [*decision.seconds] == ["plain", *MATRIX_TILES, *PAIRED_TILES]
    assert decision.seconds[decision.fastest] == min(decision.seconds.values())
    # 4 x 0.8 MB at 10 TB/s, which no device reaches, and a launch that takes a tenth of a second
    assert all(1e-7 < seconds < 0.1 for seconds in decision.seconds.values())

"""The table of fastest implementations: it collects, measures and decides problems."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch

from model.kernels.gpu.autotune import Autotuner, SecondsOf
from model.kernels.gpu.failures import DeviceLostError, StepError
from support.fake_cuda import FakeDevice, device

__all__ = ["device"]


def test_unmeasured_problem_takes_the_default() -> None:
    assert Autotuner().fastest(("convolution", 3), default="plain") == "plain"


def test_fastest_candidate_is_taken_once_measured() -> None:
    autotuner = Autotuner()
    seconds = {"plain": 3e-6, "small": 1e-6, "large": 2e-6}
    decision = autotuner.measure(("convolution", 3), _candidates(*seconds), _by_name(seconds))
    assert autotuner.fastest(("convolution", 3), default="plain") == "small"
    assert (decision.fastest, decision.seconds) == ("small", seconds)


def test_problems_are_told_apart() -> None:
    autotuner = Autotuner()
    candidates = _candidates("plain", "small")
    small_wins, plain_wins = {"plain": 2.0, "small": 1.0}, {"plain": 1.0, "small": 2.0}
    autotuner.measure(("convolution", torch.bfloat16), candidates, _by_name(small_wins))
    autotuner.measure(("convolution", torch.float32), candidates, _by_name(plain_wins))
    assert autotuner.fastest(("convolution", torch.bfloat16), default="plain") == "small"
    assert autotuner.fastest(("convolution", torch.float32), default="plain") == "plain"


def test_of_equally_fast_candidates_the_first_is_taken() -> None:
    autotuner = Autotuner()
    autotuner.measure(("p",), _candidates("plain", "small"), lambda _: 1e-6)
    assert autotuner.fastest(("p",), default="neither") == "plain"


def test_every_problem_is_collected_once_in_order() -> None:
    autotuner = Autotuner()
    with autotuner.collect_problems() as problems:
        for problem in (("b",), ("a",), ("b",)):
            autotuner.fastest(problem, default="plain")
    autotuner.fastest(("later",), default="plain")
    assert problems == [("b",), ("a",)]


def test_collecting_ends_with_an_error_too() -> None:
    autotuner = Autotuner()
    noted = []

    def failing_network() -> None:
        with autotuner.collect_problems() as problems:
            noted.append(problems)
            autotuner.fastest(("a",), default="plain")
            raise RuntimeError("the network failed")

    with pytest.raises(RuntimeError, match="network"):
        failing_network()
    autotuner.fastest(("later",), default="plain")
    assert noted == [[("a",)]]


def test_a_candidate_that_fails_is_not_chosen() -> None:
    def fail() -> None:
        raise RuntimeError("out of resources: shared memory")

    def seconds_of(run: Callable[[], object]) -> float:
        run()
        return 1.0

    autotuner = Autotuner()
    decision = autotuner.measure(("p",), {"few": fail, "plain": lambda: None}, seconds_of)
    assert decision.seconds == {"plain": 1.0}
    assert autotuner.fastest(("p",), default="few") == "plain"
    with pytest.raises(StepError, match="shared memory"):
        autotuner.measure(("q",), {"few": fail}, seconds_of)


def test_a_candidate_that_loses_the_device_ends_the_measurement(device: FakeDevice) -> None:
    measured: list[str] = []

    def seconds_of(run: Callable[[], object]) -> float:
        measured.append(str(run()))
        if measured[-1] == "small":
            device.lose()
        return 1.0

    with pytest.raises(DeviceLostError, match="illegal memory access"):
        Autotuner().measure(("p",), _candidates("plain", "small", "large"), seconds_of)
    assert measured == ["plain", "small"]


def test_choice_is_a_constant_to_the_compiler_and_a_new_one_is_noticed() -> None:
    autotuner = Autotuner()
    problem = ("scale", 4, torch.float32)

    @torch.compile(backend="eager", fullgraph=True)
    def scaled(features: torch.Tensor) -> torch.Tensor:
        name = autotuner.fastest(("scale", features.shape[0], features.dtype), default="once")
        return features * (2 if name == "twice" else 1)

    ones = torch.ones(4)
    assert scaled(ones).sum() == 4
    autotuner.measure(problem, _candidates("once", "twice"), _by_name({"once": 2.0, "twice": 1.0}))
    assert scaled(ones).sum() == 8


def _candidates(*names: str) -> dict[str, Callable[[], object]]:
    return {name: partial(str, name) for name in names}


def _by_name(seconds: dict[str, float]) -> SecondsOf:
    return lambda run: seconds[str(run())]


def test_what_another_process_has_measured_is_not_measured_again() -> None:
    problem = ("mix", "one", 64, torch.bfloat16, torch.device("cpu"))
    measured = Autotuner()
    measured.measure(problem, {"a": lambda: 2.0, "b": lambda: 1.0}, lambda run: float(str(run())))
    successor = Autotuner(measured.choices)
    assert problem in successor
    assert successor.fastest(problem, "a") == "b"
    assert ("mix", "many", 64, torch.bfloat16, torch.device("cpu")) not in successor
    # It hands on what it was handed and has used.
    assert successor.choices == measured.choices

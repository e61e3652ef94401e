"""A CPU's dtype is the one that a measurement finds faster, with that as its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from model.inference import dtype_selection
from model.inference.dtype_selection import ROUNDS, DtypeChoice, DtypeChooser, choose_dtype
from model.lowering.cpu import lowering_unsupported_reason
from model.zoo import create_model

needs_kernels = pytest.mark.skipif(
    lowering_unsupported_reason(torch.bfloat16) is not None,
    reason=str(lowering_unsupported_reason(torch.bfloat16)),
)


def clock_of(product_seconds: tuple[float, float], pass_seconds: tuple[float, float]) -> Clock:
    """Return a clock by which each run takes the given time, float32's and bfloat16's."""

    def moments() -> Iterator[float]:
        now = 0.0
        for usual, other in [product_seconds] * ROUNDS + [pass_seconds] * ROUNDS:
            for seconds in (usual, other):
                yield now
                now += seconds
                yield now

    ticks = moments()
    return lambda: next(ticks)


Clock = Callable[[], float]


@needs_kernels
@pytest.mark.parametrize(
    ("product_seconds", "pass_seconds", "want", "reason"),
    [
        ((2.0, 1.0), (2.0, 1.0), torch.bfloat16, "2.00 times the speed of float32"),
        ((2.0, 1.0), (1.1, 1.0), torch.float32, "1.10 times the speed of float32"),
        (
            (1.0, 50.0),
            (9.0, 1.0),
            torch.float32,
            "PyTorch's bfloat16 product has 0.02 times the speed",
        ),
    ],
    ids=["faster", "hardly faster", "emulated"],
)
def test_the_faster_dtype_is_chosen(
    product_seconds: tuple[float, float],
    pass_seconds: tuple[float, float],
    want: torch.dtype,
    reason: str,
) -> None:
    network = create_model("demo", weights="demo")
    choice = choose_dtype(network, clock=clock_of(product_seconds, pass_seconds))
    assert choice.dtype == want
    assert reason in choice.reason


@needs_kernels
def test_an_emulated_dtype_is_not_tried_on_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("it would take minutes")

    monkeypatch.setattr(dtype_selection, "_backbone_pass", refuse)
    choose_dtype(create_model("demo", weights="demo"), clock=clock_of((1.0, 9.0), (1.0, 1.0)))


def test_without_kernels_it_is_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        dtype_selection, "lowering_unsupported_reason", lambda _: "there is no compiler"
    )
    choice = choose_dtype(create_model("demo", weights="demo"))
    assert (choice.dtype, choice.reason) == (torch.float32, "there is no compiler")


@needs_kernels
@pytest.mark.parametrize("task", ["classify", "segment"])
def test_the_network_is_left_as_it_was(task: str) -> None:
    network = create_model("demo", task=task, weights="demo")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    choice = choose_dtype(network)
    assert choice.dtype in {torch.float32, torch.bfloat16}
    assert list(network.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def chooser(known: dict[str, tuple[str, str]], **choices: Any) -> DtypeChooser:
    options: dict[str, Any] = {"compiles": False, "requested": "auto", "setting": "DTYPE"} | choices
    return DtypeChooser(torch.device("cpu"), known=known, **options)


def test_a_form_is_measured_once_and_not_after_another_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured: list[nn.Module] = []

    def measure(network: nn.Module) -> DtypeChoice:
        measured.append(network)
        return DtypeChoice(torch.bfloat16, "it is faster")

    monkeypatch.setattr(dtype_selection, "choose_dtype", measure)
    first = chooser({})
    network = nn.Identity()
    choices = [first.choose(network, form) for form in ("small", "small", "large")]
    assert set(choices) == {DtypeChoice(torch.bfloat16, "auto: it is faster")}
    assert len(measured) == 2
    assert chooser(first.choices).choose(network, "large") == choices[0]
    assert len(measured) == 2
    assert chooser(first.choices, requested="float32").choose(network, "large") == DtypeChoice(
        torch.float32, "DTYPE=float32"
    )
    assert chooser(first.choices, compiles=True).choose(network, "large").dtype is torch.float32

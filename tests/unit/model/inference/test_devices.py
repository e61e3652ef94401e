"""A predictor's device is the current one in everything that computes; missing ones are refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from model.inference.devices import find_device
from model.inference.predictor import Predictor

CPU, SECOND = torch.device("cpu"), torch.device("cuda:1")
COMPUTING = (
    "prepare",
    "dry_run",
    "enqueue",
    "classify",
    "launch",
    "launch_explanations",
    "segment",
    "pixel_logits",
    "label_maps",
    "detect",
)


def test_a_device_that_is_missing_is_refused() -> None:
    with pytest.raises(ValueError, match="Device cuda:99 was asked for"):
        find_device("cuda:99")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_missing_device_is_told_by_its_name_on_the_host() -> None:
    with pytest.raises(ValueError, match="Device cuda:5 was asked for; torch can use no such GPU"):
        find_device("cuda:0", "cuda:5")


@pytest.fixture
def current(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """Return the current devices, the innermost last."""
    devices: list[torch.device] = []

    @contextmanager
    def device(name: torch.device) -> Iterator[None]:
        devices.append(name)
        try:
            yield
        finally:
            devices.pop()

    monkeypatch.setattr(torch.cuda, "device", device)
    return devices


def test_all_that_computes_runs_on_the_predictors_device(
    monkeypatch: pytest.MonkeyPatch, current: list[torch.device]
) -> None:
    predictor = Predictor(nn.Identity(), CPU, torch.float32)
    predictor.device = SECOND
    public = {
        name
        for name, value in vars(Predictor).items()
        if not name.startswith("_") and callable(value)
    }
    assert public == {*COMPUTING, "start_over", "do_not_compile"}

    def seen(*_: object, **__: object) -> None:
        assert {*current} == {SECOND}
        assert torch.is_inference_mode_enabled()
        raise InterruptedError

    for name in COMPUTING:
        monkeypatch.setattr(Predictor, "_batch", seen)
        monkeypatch.setattr("model.inference.predictor.label_map", seen)
        arguments = {
            "label_maps": ([torch.zeros(1)], (4, 4), [(4, 4)]),
            "segment": ([], (1, 4, 4), []),
            "detect": ([], (1, 4, 4), []),
            "classify": ([], (1, 4, 4)),
            "launch": ([], (1, 4, 4)),
            "launch_explanations": ([], (1, 4, 4), []),
            "pixel_logits": ([], (1, 4, 4)),
        }.get(name, ((1, 4, 4),))
        with pytest.raises(InterruptedError):
            getattr(predictor, name)(*arguments)
        assert current == []


def test_recordings_are_forgotten_on_the_predictors_device(
    monkeypatch: pytest.MonkeyPatch, current: list[torch.device]
) -> None:
    predictor = Predictor(nn.Identity(), CPU, torch.float32)
    predictor.device = SECOND
    seen: list[torch.device] = []
    monkeypatch.setattr(predictor.execution, "start_over", lambda: seen.extend(current))
    monkeypatch.setattr(predictor.execution, "do_not_compile", lambda _: seen.extend(current))
    predictor.start_over()
    predictor.do_not_compile("a test")
    assert seen == [SECOND, SECOND]

"""Whether to compile is decided, said, and insisted on where it was asked for."""

from __future__ import annotations

import logging
from typing import cast

import pytest
import torch

from model.inference import preparation
from model.inference.compiled import CompileError
from model.inference.predictor import Predictor
from model.inference.preparation import CompileDecision, compile_decision, prepare
from model.kernels.gpu.failures import DeviceLostError, failing_as
from support.fake_cuda import FakeDevice, device

__all__ = ["device"]

SETTING = "OVERLOCK_COMPILE"
CPU, GPU = torch.device("cpu"), torch.device("cuda")
INSISTS = CompileDecision(True, True, "OVERLOCK_COMPILE=on")
TRIES = CompileDecision(True, False, "auto: the device is a GPU")


class Model:
    """Stands for a predictor; its compiler may be broken and its device small."""

    def __init__(self, *, broken: bool = False, room: int = 100) -> None:
        self.broken = broken
        self.room = room

    def prepare(self, shape: tuple[int, int, int]) -> None:
        if self.broken:
            raise CompileError("Unsupported: a thing")
        if shape[0] > self.room:
            raise torch.OutOfMemoryError("no room")

    def dry_run(self, shape: tuple[int, int, int]) -> None:
        """Run without images."""

    def do_not_compile(self, reason: str) -> None:
        assert "Unsupported: a thing" in reason
        self.broken = False

    def start_over(self) -> None:
        """Hold no recordings."""


def prepared(model: Model, decision: CompileDecision) -> preparation.PreparedModel:
    return prepare(cast("Predictor", model), "overlock_t", decision, (1, 2, 4), [(8, 8)])


@pytest.mark.parametrize(
    ("setting", "device", "reason", "want"),
    [
        ("off", GPU, None, CompileDecision(False, False, "OVERLOCK_COMPILE=off")),
        ("auto", CPU, None, CompileDecision(False, False, "auto: the device is a CPU")),
        ("auto", GPU, None, TRIES),
        ("auto", GPU, "no Triton", CompileDecision(False, False, "auto: no Triton")),
        ("on", CPU, None, INSISTS),
    ],
)
def test_the_setting_becomes_a_decision_with_its_reason(
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    device: torch.device,
    reason: str | None,
    want: CompileDecision,
) -> None:
    monkeypatch.setattr(preparation, "compile_unsupported_reason", lambda _: reason)
    assert compile_decision(setting, device, SETTING) == want


def test_an_explicit_setting_that_cannot_be_met_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        preparation, "compile_unsupported_reason", lambda _: "there is no C++ compiler"
    )
    with pytest.raises(ValueError, match="COMPILE=on cannot be met: there is no C\\+\\+ compiler"):
        compile_decision("on", CPU, SETTING)
    with pytest.raises(ValueError, match="overlock_t could not be compiled: Unsupported: a thing"):
        prepared(Model(broken=True), INSISTS)


def test_auto_goes_on_without_a_compiler_that_fails_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        result = prepared(Model(broken=True), TRIES)
    assert (result.compiled, result.batch_sizes) == (False, (1, 2, 4))
    assert result.compiled_reason == "auto: the device is a GPU, but the compiler failed"
    assert "overlock_t could not be compiled" in caplog.text


def test_batches_end_where_memory_does(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        result = prepared(Model(room=2), TRIES)
    assert (result.compiled, result.batch_sizes) == (True, (1, 2))
    assert "overlock_t gets at most 2 images at once" in caplog.text


def test_a_model_without_room_for_one_image_is_refused() -> None:
    with pytest.raises(ValueError, match="overlock_t does not fit into the device's memory"):
        prepared(Model(room=0), TRIES)


@pytest.mark.parametrize("decision", [INSISTS, TRIES], ids=["on", "auto"])
def test_a_lost_device_is_no_wrong_setting_no_fallback_and_no_lack_of_memory(
    monkeypatch: pytest.MonkeyPatch, device: FakeDevice, decision: CompileDecision
) -> None:
    def lose(_: object) -> None:
        with failing_as(CompileError):
            device.lose()

    model = Model()
    monkeypatch.setattr(model, "prepare", lose)
    monkeypatch.setattr(model, "do_not_compile", lambda _: pytest.fail("it fell back"))
    monkeypatch.setattr(model, "start_over", lambda: pytest.fail("it tried a smaller batch"))
    with pytest.raises(DeviceLostError, match="illegal memory access") as raised:
        prepared(model, decision)
    assert not isinstance(raised.value, ValueError | RuntimeError)

"""A network that can run does run, whatever fails of kernels, compiling and recording."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from model.inference.execution import Execution, Gpu
from model.inference.recordings import Recording, Recordings
from model.inference.static_module import ForwardFunction, Tensors
from model.kernels.gpu import support
from model.kernels.gpu.autotune import Autotuner
from model.kernels.gpu.failures import DeviceLostError, Fallback
from support.fake_cuda import FakeDevice, device

__all__ = ["device"]

BATCH = torch.ones(2, 4, 4, 3), torch.full((2, 2), 4)


@pytest.fixture(autouse=True)
def _kernels_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support, "TRITON_INSTALLED", True)
    monkeypatch.setattr(support, "_turned_off", [])


class Doubling(nn.Module):
    """Doubles its input, with a kernel that may fail; a batch above the limit fails anyway."""

    def __init__(self, kernel_error: Exception | None = None, limit: int = 100) -> None:
        super().__init__()
        self.kernel_error = kernel_error
        self.limit = limit

    def forward(self, pixels: Tensor, sizes: Tensor) -> Tensors:
        if len(pixels) > self.limit:
            raise RuntimeError("numel() must be below 2**31")
        if self.kernel_error is not None and support.triton_unsupported_reason() is None:
            raise self.kernel_error
        return (pixels * 2, sizes)


class FakeRecorder:
    """Replays by running; may fail, from the start or from the second recording on."""

    def __init__(self, error: Exception | None = None, fails_from: int = 0) -> None:
        self.error = error
        self.fails_from = fails_from
        self.recorded: list[int] = []
        self.replays = 0

    def record(self, forward: ForwardFunction, pixels: Tensor, sizes: Tensor) -> Recording:
        if self.error is not None and len(self.recorded) >= self.fails_from:
            raise self.error
        self.recorded.append(len(pixels))
        inputs = (pixels.clone(), sizes.clone())
        outputs = tuple(result.clone() for result in forward(*inputs))

        def replay() -> None:
            self.replays += 1
            for buffer, result in zip(outputs, forward(*inputs), strict=True):
                buffer.copy_(result)

        return Recording(inputs, outputs, replay, buffer_bytes=1, pool_growth_bytes=0)

    def new_pool(self) -> None:
        """Hold no memory."""


def execution(
    module: nn.Module,
    recorder: FakeRecorder | None = None,
    seconds_of: Callable[[Callable[[], object]], float] = lambda _: 1.0,
    *,
    max_bytes: int = 100,
    compiler: str | None = None,
) -> Execution:
    gpu = Gpu(Recordings(recorder or FakeRecorder(), max_bytes), Autotuner(), seconds_of)
    return Execution(module, gpu, compiler)


def doubles(running: Execution, batch: tuple[Tensor, Tensor] = BATCH) -> bool:
    return bool((running(*batch)[0] == 2 * batch[0]).all())


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("operation not permitted when stream is capturing"),
        RuntimeError("Cannot copy between CPU and CUDA tensors during CUDA graph capture"),
        AssertionError("strides"),
    ],
)
def test_a_network_that_cannot_be_recorded_is_launched_kernel_by_kernel(
    caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    running = execution(Doubling(), FakeRecorder(error))
    with caplog.at_level(logging.WARNING):
        running.prepare(*BATCH)
        running.prepare(BATCH[0][:1], BATCH[1][:1])
    assert doubles(running)
    assert running.fallbacks == [Fallback("record", str(error))]
    assert caplog.text.count(str(error)) == 1


def test_memory_that_ends_while_recording_makes_the_batch_smaller_from_any_reporter() -> None:
    error = torch.AcceleratorError("CUDA error: out of memory")
    running = execution(Doubling(), FakeRecorder(error))
    with pytest.raises(torch.OutOfMemoryError):
        running.prepare(*BATCH)
    assert running.fallbacks == []


def test_a_failed_recording_under_traffic_fails_no_batch() -> None:
    recorder = FakeRecorder(RuntimeError("no"), fails_from=2)
    running = execution(Doubling(), recorder, max_bytes=1)  # room for one recording
    told: list[object] = []
    running.on_fallback, running.on_rerecording = told.append, lambda: told.append("again")
    one = BATCH[0][:1], BATCH[1][:1]
    running.prepare(*BATCH)
    running.prepare(*one)
    assert doubles(running)
    assert doubles(running, one)
    assert told == ["again", Fallback("record", "no")]


def test_a_kernel_that_fails_while_a_batch_is_recorded_anew_is_a_kernels_failure() -> None:
    module, recorder = Doubling(), FakeRecorder()
    running = execution(module, recorder, max_bytes=1)  # room for one recording
    one = BATCH[0][:1], BATCH[1][:1]
    running.prepare(*BATCH)
    running.prepare(*one)
    module.kernel_error = RuntimeError("ptxas failed")
    assert doubles(running)
    assert running.fallbacks == [Fallback("kernels", "ptxas failed")]
    assert recorder.recorded == [2, 1, 2, 2]  # with the kernel, and without
    assert recorder.replays == 1


def test_recordings_are_given_up_until_a_batch_fits() -> None:
    recorder = FakeRecorder()
    running = execution(Doubling(), recorder)
    for size in (4, 2, 1):
        running.prepare(torch.ones(size, 4, 4, 3), torch.full((size, 2), 4))
    held: list[int] = []

    def run() -> str:
        assert running.recorded is not None
        held.append(len(running.recorded.recorded_shapes))
        if held[-1]:
            raise RuntimeError("CUDA error: out of memory")
        return "fits"

    assert running.with_memory(run) == "fits"
    assert held == [3, 1, 0]
    assert doubles(running)
    assert recorder.recorded == [4, 2, 1]  # memory is short: never again


def test_recordings_that_are_given_up_in_vain_are_made_again() -> None:
    def run() -> None:
        raise torch.OutOfMemoryError("no room")

    recorder = FakeRecorder()
    running = execution(Doubling(), recorder)
    running.prepare(*BATCH)
    with pytest.raises(torch.OutOfMemoryError):
        running.with_memory(run)
    assert doubles(running)
    assert recorder.recorded == [2, 2]


def test_another_failure_costs_no_recording() -> None:
    def run() -> None:
        raise ValueError("odd pixels")

    running = execution(Doubling())
    running.prepare(*BATCH)
    with pytest.raises(ValueError, match="odd"):
        running.with_memory(run)
    assert running.recorded is not None
    assert len(running.recorded.recorded_shapes) == 1


@pytest.mark.parametrize("step", ["measuring", "compiling", "recording", "running"])
def test_a_lost_device_is_a_failure_of_no_step(device: FakeDevice, step: str) -> None:
    class Losing(Doubling):
        def forward(self, pixels: Tensor, sizes: Tensor) -> Tensors:
            if step == {0: "measuring", 1: "compiling"}.get(self.runs):
                device.lose()
            self.runs += 1
            return super().forward(pixels, sizes)

        runs = 0

    class LosingRecorder(FakeRecorder):
        def record(self, forward: ForwardFunction, pixels: Tensor, sizes: Tensor) -> Recording:
            if step == "recording":
                device.lose()
            return super().record(forward, pixels, sizes)

    running = execution(Losing(), LosingRecorder(), compiler="eager")

    def run() -> None:
        running.prepare(*BATCH)
        running.with_kernels(device.lose)

    with pytest.raises(DeviceLostError, match="illegal memory access"):
        running.with_memory(run)
    assert running.fallbacks == []
    assert support.triton_unsupported_reason() is None


def test_without_memory_for_a_recording_under_traffic_the_batch_still_runs() -> None:
    recorder = FakeRecorder(torch.OutOfMemoryError("no room"), fails_from=2)
    running = execution(Doubling(), recorder, max_bytes=1)
    running.prepare(*BATCH)
    running.prepare(BATCH[0][:1], BATCH[1][:1])
    assert doubles(running)
    assert doubles(running)
    assert running.fallbacks == []


@pytest.mark.parametrize(
    "error", [RuntimeError("Failed to find C compiler"), OSError("noexec"), ValueError("ptxas")]
)
def test_kernels_that_cannot_be_launched_are_replaced_by_pytorchs(error: Exception) -> None:
    running = execution(Doubling(error))
    running.prepare(*BATCH)
    assert doubles(running)
    assert running.fallbacks == [Fallback("kernels", str(error))]
    assert support.triton_unsupported_reason() == str(error)


def test_a_kernel_that_fails_under_traffic_fails_no_batch() -> None:
    module = Doubling()
    running = execution(module)
    running.prepare(*BATCH)
    module.kernel_error = RuntimeError("ptxas failed")
    other = torch.ones(3, 8, 4, 3), torch.full((3, 2), 4)
    assert doubles(running, other)
    assert running.fallbacks == [Fallback("kernels", "ptxas failed")]


def test_a_kernel_outside_of_the_network_may_fail_too() -> None:
    running = execution(Doubling())

    def label() -> str:
        if support.triton_unsupported_reason() is None:
            raise OSError("noexec")
        return "by PyTorch"

    assert [running.with_kernels(label) for _ in range(2)] == ["by PyTorch"] * 2
    assert running.fallbacks == [Fallback("kernels", "noexec")]


def test_what_fails_without_kernels_too_is_no_failure_of_theirs() -> None:
    def fail() -> None:
        raise ValueError("odd pixels")

    running = execution(Doubling())
    with pytest.raises(ValueError, match="odd pixels"):
        running.with_kernels(fail)
    assert running.fallbacks == []
    assert support.triton_unsupported_reason() is None


def test_a_batch_that_no_operator_takes_is_no_failure_of_kernels_or_compiler() -> None:
    running = execution(Doubling(limit=1), compiler="eager")
    with pytest.raises(RuntimeError, match="numel"):
        running.prepare(*BATCH)
    assert running.fallbacks == []
    assert support.triton_unsupported_reason() is None


def test_a_compiler_that_fails_is_told_and_its_recordings_are_forgotten() -> None:
    recorder = FakeRecorder()
    running = execution(Doubling(), recorder, compiler="eager")
    running.prepare(*BATCH)
    running.do_not_compile("a thing")
    recorded = running.recorded
    assert recorded is not None
    assert recorded.recorded_shapes == ()
    running.prepare(*BATCH)
    assert doubles(running)
    assert running.fallbacks == [Fallback("compile", "a thing")]
    assert recorder.recorded == [2, 2]


def test_starting_over_frees_all_recordings_and_records_none_of_them_again() -> None:
    recorder = FakeRecorder()
    running = execution(Doubling(), recorder)
    running.prepare(*BATCH)
    running.start_over()
    assert doubles(running)
    assert recorder.recorded == [2]


@pytest.mark.parametrize(
    ("count", "padded"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 5), (6, 8), (8, 8), (9, 9)]
)
def test_a_batch_is_padded_to_a_recorded_one_that_is_little_larger(count: int, padded: int) -> None:
    running = execution(Doubling())
    for size in (8, 4, 2, 1):
        running.prepare(torch.ones(size, 4, 4, 3), torch.full((size, 2), 4))
    assert running.padded_size((count, 4, 4)) == padded
    assert running.padded_size((count, 4, 8)) == count  # of this size none is recorded


def test_each_step_of_a_preparation_is_timed() -> None:
    seconds = execution(Doubling(), compiler="eager").prepare(*BATCH)
    assert min(seconds.measuring, seconds.compiling, seconds.recording) > 0

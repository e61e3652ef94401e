"""Captures use one stream and own their workspaces; a failure leaves the thread on its stream."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.inference.cuda_graphs import CudaGraphRecorder
from model.inference.static_module import Tensors
from model.kernels.gpu.capture import capturing, on_capture_stream
from model.kernels.gpu.timing import capture_graph
from support.fake_cuda import FakeCuda, FakeStream, cuda

__all__ = ["cuda"]

GPU = torch.device("cuda:0")
BATCH = torch.zeros(2, 4, 4, 3), torch.zeros(2, 2)


def test_all_warm_ups_captures_and_measurements_share_one_stream(cuda: FakeCuda) -> None:
    ran_on: list[FakeStream] = []

    def forward(pixels: Tensor, sizes: Tensor) -> Tensors:
        ran_on.append(cuda.current)
        return (pixels, sizes)

    recorder = CudaGraphRecorder(GPU)
    for _ in range(3):
        recorder.record(forward, *BATCH)
        recorder.new_pool()
        capture_graph([lambda: ran_on.append(cuda.current)], GPU)
    assert len(cuda.streams) == 1
    assert set(ran_on) == set(cuda.capturing_on) == set(cuda.streams)
    assert cuda.current is cuda.default


def test_workspaces_are_given_up_before_and_after_each_capture(cuda: FakeCuda) -> None:
    recorder = CudaGraphRecorder(GPU)
    recorder.record(lambda pixels, _: (pixels,), *BATCH)
    capture_graph([lambda: None], GPU)
    assert cuda.calls == ["clear", "capture", "clear"] * 2


def test_a_failed_capture_leaves_the_thread_on_its_stream_and_the_allocator_outside(
    cuda: FakeCuda,
) -> None:
    cuda.capture_fails = True
    with pytest.raises(torch.AcceleratorError), capturing(torch.cuda.CUDAGraph(), GPU):
        pass
    assert cuda.current is cuda.default
    assert cuda.calls == ["clear", "capture", "end allocation", "release pool", "clear"]


def test_a_failed_warm_up_does_so_too(cuda: FakeCuda) -> None:
    with pytest.raises(RuntimeError, match="no compiler"), on_capture_stream(GPU):
        raise RuntimeError("no compiler")
    assert cuda.current is cuda.default

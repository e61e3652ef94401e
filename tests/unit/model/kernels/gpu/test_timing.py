"""Workloads are timed without warm-up and launches."""

from __future__ import annotations

import pytest
import torch

from model.kernels.gpu import timing
from model.kernels.gpu.timing import seconds_of


class FakeClock:
    """A clock that a test advances."""

    def __init__(self) -> None:
        self.now_seconds = 100.0

    def perf_counter(self) -> float:
        return self.now_seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    fake = FakeClock()
    monkeypatch.setattr(timing, "time", fake)
    return fake


def test_time_is_the_median_without_the_first_run(clock: FakeClock) -> None:
    lengths = iter([50.0, 1.0, 9.0, 2.0])  # the first one warms up

    def run() -> None:
        clock.now_seconds += next(lengths)

    assert seconds_of([run], torch.device("cpu"), repeats=3) == 2.0


def test_runs_take_turns(clock: FakeClock) -> None:
    order: list[str] = []
    runs = [lambda: order.append("a"), lambda: order.append("b")]
    seconds_of(runs, torch.device("cpu"), repeats=3)
    assert order == ["a", "b", "a", "b", "a"]


@pytest.mark.gpu
def test_gpu_copies_faster_than_the_host_launches() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    device = torch.device("cuda")
    source = torch.randn(2**28, device=device)  # a gigabyte, more than any cache
    target = torch.empty_like(source)
    seconds = seconds_of([lambda: target.copy_(source)], device, repeats=5)
    # Between 100 GB/s, any card since 2012, and 20 TB/s, which none reaches.
    assert 2 * 2**30 / 20e12 < seconds < 2 * 2**30 / 100e9

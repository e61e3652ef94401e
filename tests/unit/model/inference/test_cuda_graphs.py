"""Recordings: listed shapes alone, the least recently used dropped, memory bounded."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from model.inference.cuda_graphs import RecordedModule, Recording
from model.inference.static_module import ForwardFunction, Tensors


def double(pixels: Tensor, sizes: Tensor) -> Tensors:
    return (pixels * 2, sizes)


@dataclass
class FakeRecorder:
    """Replays by running; a test sets the memory that a batch needs."""

    pool_bytes: dict[int, int] = field(default_factory=dict)
    recorded: list[int] = field(default_factory=list)
    replayed: list[int] = field(default_factory=list)
    fragmented: bool = False
    pools: int = 1
    pool: int = 0

    def record(self, forward: ForwardFunction, pixels: Tensor, sizes: Tensor) -> Recording:
        count = len(pixels)
        self.recorded.append(count)
        inputs = (pixels.clone(), sizes.clone())
        outputs = tuple(torch.empty_like(result) for result in forward(*inputs))

        def replay() -> None:
            self.replayed.append(count)
            for buffer, result in zip(outputs, forward(*inputs), strict=True):
                buffer.copy_(result)

        needed = self.pool_bytes.get(count, 0)
        grown = needed if self.fragmented else max(needed - self.pool, 0)
        self.pool += grown
        return Recording(inputs, outputs, replay, buffer_bytes=10, pool_growth_bytes=grown)

    def new_pool(self) -> None:
        self.pools, self.pool = self.pools + 1, 0


def batch_of(count: int, value: int = 1) -> tuple[Tensor, Tensor]:
    return torch.full((count, 2, 2, 3), value), torch.full((count, 2), 2)


def prepared(recorder: FakeRecorder, counts: tuple[int, ...], max_bytes: int) -> RecordedModule:
    part = RecordedModule(double, recorder, max_bytes)
    for count in counts:
        part.prepare(*batch_of(count))
    return part


def recorded_counts(part: RecordedModule) -> list[int]:
    return [shape[0] for shape in part.recorded_shapes]


def test_a_listed_shape_is_replayed_with_the_new_batch() -> None:
    recorder = FakeRecorder()
    part = prepared(recorder, (1, 4), max_bytes=100)
    for count, value in ((4, 3), (1, 5), (4, 7)):
        doubled, _ = part(*batch_of(count, value))
        assert doubled.shape[0] == count
        assert (doubled == 2 * value).all()
    assert recorder.replayed == [4, 1, 4]
    assert recorder.recorded == [1, 4]


def test_a_shape_on_no_list_runs_without_being_recorded() -> None:
    recorder = FakeRecorder()
    part = prepared(recorder, (1,), max_bytes=100)
    doubled, _ = part(*batch_of(3, 5))
    assert (doubled == 10).all()
    assert (recorder.recorded, recorder.replayed) == ([1], [])


def test_the_least_recently_used_is_dropped_and_recorded_again_when_needed() -> None:
    recorder = FakeRecorder()
    part = prepared(recorder, (1, 2, 4), max_bytes=30)
    part(*batch_of(1))
    part.prepare(*batch_of(8))
    assert recorded_counts(part) == [4, 1, 8]
    assert part.held_bytes == 30
    doubled, _ = part(*batch_of(2, 6))
    assert (doubled == 12).all()
    assert recorded_counts(part) == [1, 8, 2]


def test_a_pool_over_the_limit_is_freed() -> None:
    recorder = FakeRecorder(pool_bytes={8: 40, 4: 40}, fragmented=True)
    part = prepared(recorder, (8, 4), max_bytes=70)
    assert recorder.pools == 2
    assert recorded_counts(part) == [4]
    assert part.held_bytes == 50


def test_a_batch_that_is_too_large_alone_is_launched_kernel_by_kernel(
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder = FakeRecorder(pool_bytes={8: 100})
    with caplog.at_level(logging.WARNING):
        part = prepared(recorder, (8, 1), max_bytes=50)
    assert "(8, 2, 2, 3) is too large to be recorded" in caplog.text
    assert recorded_counts(part) == [1]
    tries = len(recorder.recorded)
    doubled, _ = part(*batch_of(8, 2))
    assert (doubled == 4).all()
    assert len(recorder.recorded) == tries  # not tried again under traffic
    assert 8 not in recorder.replayed

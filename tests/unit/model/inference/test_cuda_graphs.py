"""Listed shapes are replayed, others run as they are."""

from __future__ import annotations

import logging

import pytest
from torch import Tensor

from model.inference.cuda_graphs import RecordedModule
from model.inference.recordings import Recordings
from support.fake_recorder import FakeRecorder, batch_of, double


def prepared(recorder: FakeRecorder, counts: tuple[int, ...], max_bytes: int) -> RecordedModule:
    part = RecordedModule(double, Recordings(recorder, max_bytes))
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


def test_a_batch_that_was_written_to_a_recordings_inputs_is_not_copied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder = FakeRecorder()
    part = prepared(recorder, (2,), max_bytes=100)
    assert part.inputs_for((1, 2, 2)) is None
    inputs = part.inputs_for((2, 2, 2))
    assert inputs is not None
    for buffer, value in zip(inputs, batch_of(2, 9), strict=True):
        buffer.copy_(value)
    copied_to: list[Tensor] = []
    copy_ = Tensor.copy_

    def noting(to: Tensor, source: Tensor) -> Tensor:
        copied_to.append(to)
        return copy_(to, source)

    monkeypatch.setattr(Tensor, "copy_", noting)
    doubled, _ = part(*inputs)
    assert (doubled == 18).all()
    assert recorder.replayed == [2]
    assert not any(to is buffer for to in copied_to for buffer in inputs)


def test_a_shape_on_no_list_runs_without_being_recorded() -> None:
    recorder = FakeRecorder()
    part = prepared(recorder, (1,), max_bytes=100)
    doubled, _ = part(*batch_of(3, 5))
    assert (doubled == 10).all()
    assert (recorder.recorded, recorder.replayed) == ([1], [])


def test_a_dropped_recording_is_made_again_when_needed() -> None:
    part = prepared(FakeRecorder(), (1, 2, 4), max_bytes=30)
    part(*batch_of(1))
    part.prepare(*batch_of(8))
    assert recorded_counts(part) == [4, 1, 8]
    doubled, _ = part(*batch_of(2, 6))
    assert (doubled == 12).all()
    assert recorded_counts(part) == [1, 8, 2]


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


def test_a_recording_that_was_given_up_is_not_made_again() -> None:
    recorder = FakeRecorder()
    recordings = Recordings(recorder, 100)
    part = RecordedModule(double, recordings)
    part.prepare(*batch_of(1))
    evicted = recordings.evict()
    for _ in range(2):
        doubled, _ = part(*batch_of(1, 4))
        assert (doubled == 8).all()
    assert (recorder.recorded, recorder.replayed) == ([1], [])
    recordings.readmit(evicted)
    part(*batch_of(1, 4))
    assert (recorder.recorded, recorder.replayed) == ([1, 1], [1])


def test_memory_that_ends_while_recording_under_traffic_fails_no_batch() -> None:
    recorder = FakeRecorder()
    part = prepared(recorder, (1, 2), max_bytes=10)  # room for one
    recorder.room_bytes = 0
    for _ in range(2):
        doubled, _ = part(*batch_of(1, 4))
        assert (doubled == 8).all()
    assert recorder.recorded == [1, 2, 1, 1]  # beside the other, and alone; then never again


def test_a_failure_that_an_unrecorded_run_has_too_is_not_the_recordings() -> None:
    def fail(pixels: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
        raise RuntimeError("ptxas failed")

    told: list[str] = []
    part = RecordedModule(fail, Recordings(FakeRecorder(), 100), on_failure=told.append)
    with pytest.raises(RuntimeError, match="ptxas"):
        part.prepare(*batch_of(1))
    assert told == []

"""All models' recordings: one limit, the least recently used dropped, given up for memory."""

from __future__ import annotations

import logging

import pytest
import torch

from model.inference.recordings import Key, Recordings
from support.fake_recorder import FakeRecorder, batch_of, double

CLASSIFIER, SEGMENTER = "classifier", "segmenter"


def key(owner: str, count: int) -> Key:
    return owner, torch.Size((count, 2, 2, 3))


def make(recordings: Recordings, owner: str, *counts: int) -> None:
    for count in counts:
        recordings.make(key(owner, count), double, *batch_of(count))


def counts_of(recordings: Recordings, owner: str) -> list[int]:
    return [shape[0] for shape in recordings.shapes_of(owner)]


def test_the_limit_is_that_of_all_models_together() -> None:
    recordings = Recordings(FakeRecorder(), max_bytes=30)
    make(recordings, CLASSIFIER, 1, 2)
    make(recordings, SEGMENTER, 4)
    assert recordings.get(key(CLASSIFIER, 1)) is not None
    make(recordings, SEGMENTER, 8)
    assert recordings.held_bytes == 30
    assert counts_of(recordings, CLASSIFIER) == [1]  # 2 was not used for longer
    assert counts_of(recordings, SEGMENTER) == [4, 8]


def test_models_share_a_pool_of_the_size_of_the_largest() -> None:
    recordings = Recordings(FakeRecorder(pool_bytes={1: 40, 2: 60}), max_bytes=100)
    make(recordings, CLASSIFIER, 1)
    make(recordings, SEGMENTER, 2)
    assert recordings.held_bytes == 60 + 2 * 10


def test_a_pool_over_the_limit_is_freed() -> None:
    recorder = FakeRecorder(pool_bytes={8: 40, 4: 40}, fragmented=True)
    recordings = Recordings(recorder, max_bytes=70)
    make(recordings, CLASSIFIER, 8)
    make(recordings, SEGMENTER, 4)
    assert recorder.pools == 2
    assert counts_of(recordings, CLASSIFIER) == []
    assert counts_of(recordings, SEGMENTER) == [4]
    assert recordings.held_bytes == 50


def test_a_forgotten_model_leaves_the_others_recordings() -> None:
    recorder = FakeRecorder()
    recordings = Recordings(recorder, max_bytes=100)
    make(recordings, CLASSIFIER, 1)
    make(recordings, SEGMENTER, 1)
    recordings.forget(CLASSIFIER)
    assert (len(recordings), recorder.pools) == (1, 1)
    recordings.forget(SEGMENTER)
    assert (len(recordings), recorder.pools) == (0, 2)


def test_the_longest_unused_half_is_given_up_first_and_the_pool_with_the_last(
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder = FakeRecorder()
    recordings = Recordings(recorder, max_bytes=100)
    make(recordings, CLASSIFIER, 1, 2)
    make(recordings, SEGMENTER, 1)
    assert recordings.get(key(CLASSIFIER, 1)) is not None
    with caplog.at_level(logging.WARNING):
        assert recordings.evict() == {key(CLASSIFIER, 2), key(SEGMENTER, 1)}
    assert "given up for the device's memory: [(1, 2, 2, 3), (2, 2, 2, 3)]" in caplog.text
    assert recorder.pools == 1
    assert recordings.evict() == {key(CLASSIFIER, 1)}
    assert recorder.pools == 2
    assert not recordings.may_make(key(CLASSIFIER, 1))


def test_without_room_for_a_recording_others_are_evicted() -> None:
    recorder = FakeRecorder(pool_bytes={1: 10, 2: 10, 8: 50}, fragmented=True, room_bytes=60)
    recordings = Recordings(recorder, max_bytes=100)
    make(recordings, CLASSIFIER, 1, 2)
    make(recordings, SEGMENTER, 8)
    assert counts_of(recordings, SEGMENTER) == [8]
    assert not recordings.may_make(key(CLASSIFIER, 1))
    assert recordings.may_make(key(CLASSIFIER, 2))


def test_recordings_that_were_given_up_in_vain_may_be_made_again() -> None:
    recorder = FakeRecorder(pool_bytes={8: 100}, room_bytes=60)
    recordings = Recordings(recorder, max_bytes=100)
    make(recordings, CLASSIFIER, 1)
    with pytest.raises(torch.OutOfMemoryError):
        make(recordings, SEGMENTER, 8)
    assert len(recordings) == 0
    assert recordings.may_make(key(CLASSIFIER, 1))

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.link.sockets import (
    ARRIVALS_BYTES,
    MAX_FRAMES,
    FrameReader,
    array_from,
    frames_of,
    header_of,
)

SIZES = st.sampled_from(
    [0, 1, 5, 100, ARRIVALS_BYTES - 1, ARRIVALS_BYTES, ARRIVALS_BYTES + 1, 4 * ARRIVALS_BYTES + 3]
)


def received(reader: FrameReader, stream: bytes, steps: list[int]) -> list[list[bytes]]:
    """Feed a stream in steps of these sizes, over and over, as a socket would."""
    messages: list[list[bytes]] = []
    left, number = memoryview(stream), 0
    while left:
        buffer = reader.buffer()
        assert len(buffer) > 0
        count = min(steps[number % len(steps)], len(buffer), len(left))
        buffer[:count] = left[:count]
        left, number = left[count:], number + 1
        messages += [[bytes(frame) for frame in each] for each in reader.filled(count)]
    return messages


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(SIZES, max_size=4), min_size=1, max_size=4),
    st.lists(
        st.sampled_from([1, 7, 8, 9, 1000, ARRIVALS_BYTES, 10**9]), min_size=1, max_size=6
    ).filter(lambda steps: max(steps) >= 1000),
)
def test_messages_arrive_whole_however_the_stream_is_cut(
    messages: list[list[int]], steps: list[int]
) -> None:
    random = np.random.default_rng(0)
    sent = [[random.bytes(size) for size in (3, *sizes)] for sizes in messages]
    stream = b"".join(
        bytes(part)
        for header, *rest in sent
        for part in frames_of(header, [np.frombuffer(each, np.uint8) for each in rest])
    )
    assert received(FrameReader(), stream, steps) == sent


def test_a_large_frame_is_complete_with_its_last_byte() -> None:
    array = np.arange(3 * ARRIVALS_BYTES, dtype=np.uint8)
    prefix, body = frames_of(b"header", [array])
    reader = FrameReader()
    assert received(reader, bytes(prefix), [10**9]) == []
    assert received(reader, bytes(body), [10**9]) == [[b"header", array.tobytes()]]


def test_arrays_of_every_layout_cross() -> None:
    square = np.arange(12, dtype=np.float32).reshape(3, 4)
    arrays = [square, square.T, square[:, ::2], square[:0], np.array(True), square > 5]
    (message,) = received(
        FrameReader(), b"".join(map(bytes, frames_of(b"", arrays))), [ARRIVALS_BYTES]
    )
    for array, frame in zip(arrays, message[1:], strict=True):
        np.testing.assert_array_equal(array_from(header_of(array), frame), array)


def test_a_contiguous_array_is_not_copied() -> None:
    array = np.zeros(100, np.float32)
    _, view = frames_of(b"", [array])
    array[0] = 1
    assert bytes(view[:4]) == struct.pack("<f", 1)


@pytest.mark.parametrize("count", [0, MAX_FRAMES + 1, 2**63])
def test_what_is_no_message_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} frames"):
        received(FrameReader(), struct.pack("<Q", count), [8])


def test_a_frame_that_does_not_fit_its_header_is_refused() -> None:
    image = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    with pytest.raises(ValueError, match="17 bytes"):
        array_from(header_of(image), b"x" * 17)

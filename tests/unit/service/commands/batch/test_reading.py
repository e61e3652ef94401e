from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from service.commands.batch import reading
from service.commands.batch.items import ImageItem
from service.commands.batch.reading import AHEAD, TRIED, ItemReader
from service.commands.predict.outcome import Failure


@pytest.mark.parametrize("count", [1, TRIED, TRIED + 1, 5 * AHEAD])
def test_files_come_in_order_with_those_that_cannot_be_read(count: int, tmp_path: Path) -> None:
    items, expected = [], list[bytes | Failure]()
    for number in range(count):
        path = tmp_path / str(number)
        if number % 3 == 1:
            expected.append(Failure("unreadable", "No such file or directory"))
        else:
            path.write_bytes(b"%d" % number)
            expected.append(b"%d" % number)
        items.append(ImageItem(str(path), str(path)))
    assert list(ItemReader().bodies(items)) == expected


def test_nothing_comes_of_no_files() -> None:
    assert list(ItemReader().bodies([])) == []


FILES, PAUSE_SECONDS = 40, 0.002


@pytest.mark.parametrize(
    ("address", "read_seconds", "read_here"),
    [
        pytest.param("{}", 0.0, FILES, id="quick"),
        pytest.param("{}", 2 * PAUSE_SECONDS, TRIED, id="slow"),
        pytest.param("s3://bucket/{}", 0.0, 0, id="bucket"),
    ],
)
def test_threads_read_ahead_where_reading_takes_a_while(
    address: str, read_seconds: float, read_here: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = Counter[bool]()

    def read(item: ImageItem) -> bytes:
        threads[threading.current_thread() is threading.main_thread()] += 1
        time.sleep(read_seconds)
        return item.path.encode()

    monkeypatch.setattr(reading, "_read", read)
    items = [ImageItem(str(number), address.format(number)) for number in range(FILES)]
    bodies = []
    for body in ItemReader().bodies(items):
        bodies.append(body)
        time.sleep(PAUSE_SECONDS)  # as a decoder does
    assert bodies == [b"%d" % number for number in range(FILES)]
    assert (threads[True], threads[False]) == (read_here, FILES - read_here)

from __future__ import annotations

import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.commands.batch import reading
from service.commands.batch.items import ImageItem
from service.commands.batch.reading import AHEAD, LEAST_TIMED, ItemReader
from service.commands.predict.outcome import Failure


@pytest.mark.parametrize("count", [1, LEAST_TIMED, LEAST_TIMED + 1, 5 * AHEAD])
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


DECODING_SECONDS = 0.003


class Disk:
    """Files that are quick or slow to read, by a clock of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_seconds = self.read_seconds = 0.0
        self.read_here: list[bool] = []
        monkeypatch.setattr(reading, "_read", self._read)
        monkeypatch.setattr(reading, "perf_counter", lambda: self.now_seconds)

    def _read(self, item: ImageItem) -> bytes:
        here = threading.current_thread() is threading.main_thread()
        self.read_here.append(here)
        if here:
            self.now_seconds += self.read_seconds
        return item.path.encode()

    def chunk(self, reader: ItemReader, count: int, address: str = "{}") -> int:
        """Read a chunk as a decoder does; return how many files were read without threads."""
        self.read_here.clear()
        items = [ImageItem(str(number), address.format(number)) for number in range(count)]
        for number, body in enumerate(reader.bodies(items)):
            assert body == b"%d" % number
            self.now_seconds += DECODING_SECONDS
        assert len(self.read_here) == count
        return sum(self.read_here)


def test_files_are_read_in_threads_while_that_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    disk, reader = Disk(monkeypatch), ItemReader()
    assert disk.chunk(reader, 40) == 40
    disk.read_seconds = DECODING_SECONDS
    assert 1 < disk.chunk(reader, 40) < 16  # until the median is that of the slow ones
    assert disk.chunk(reader, 40) == 1
    disk.read_seconds = 0.0
    here = [disk.chunk(reader, 8) for _ in range(20)]
    assert (here[0], here[-1]) == (1, 8)


def test_a_slow_disk_is_known_after_a_few_files(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    disk.read_seconds = DECODING_SECONDS
    assert disk.chunk(ItemReader(), 40) == LEAST_TIMED


def test_one_long_wait_is_no_slow_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    disk, reader = Disk(monkeypatch), ItemReader()
    disk.read_seconds = 1.0
    assert disk.chunk(reader, 1) == 1
    disk.read_seconds = 0.0
    assert disk.chunk(reader, 40) == 40


def test_objects_are_always_read_in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Disk(monkeypatch).chunk(ItemReader(), 40, "s3://bucket/{}") == 0


def test_a_chunk_may_have_rows_members_and_files(tmp_path: Path) -> None:
    table = pa.table({"bytes": [b"row 0", b"row 1"]})
    pq.write_table(table, tmp_path / "rows.parquet")
    (tmp_path / "tar").write_bytes(b"....member")
    (tmp_path / "file").write_bytes(b"file")
    rows, tar, file = (str(tmp_path / name) for name in ("rows.parquet", "tar", "file"))
    items = [
        ImageItem("b", rows, row=1),
        ImageItem("c", file),
        ImageItem("d", tar, offset=4, size=6),
        ImageItem("a", rows, row=0),
        ImageItem("e", file),
    ]
    bodies = ItemReader().bodies(items)
    assert list(bodies) == [b"row 1", b"file", b"member", b"row 0", b"file"]


def test_a_chunk_may_be_left_half_way(monkeypatch: pytest.MonkeyPatch) -> None:
    before = threading.active_count()
    bodies = ItemReader().bodies([ImageItem(str(n), f"s3://bucket/{n}") for n in range(40)])
    monkeypatch.setattr(reading, "_read", lambda item: item.path.encode())
    assert next(bodies) == b"0"
    bodies.close()  # type: ignore[attr-defined]
    assert threading.active_count() <= before

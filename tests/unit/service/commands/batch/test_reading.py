from __future__ import annotations

from pathlib import Path

import pytest

from service.commands.batch.items import ImageItem
from service.commands.batch.reading import READ_TOGETHER, ItemReader
from service.commands.predict.outcome import Failure


@pytest.mark.parametrize("count", [1, READ_TOGETHER, READ_TOGETHER + 1, 5 * READ_TOGETHER])
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

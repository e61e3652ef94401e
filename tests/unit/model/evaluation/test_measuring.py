from __future__ import annotations

import os
import signal
from collections.abc import Sequence

import pytest

from model.evaluation.images import EvaluationError
from model.evaluation.measuring import measure, span


class Numbers:
    """A data set of the numbers from 0 on."""

    covers_all_classes = True

    def __len__(self) -> int:
        return 100

    def read(self, index: int) -> int:
        return index


class Collecting:
    """Keeps the batches; may interrupt the process while it works on one."""

    def __init__(self, interrupt_at: int | None = None) -> None:
        self.batches: list[list[int]] = []
        self.interrupt_at = interrupt_at

    def add(self, items: Sequence[int]) -> None:
        if self.interrupt_at in items:
            os.kill(os.getpid(), signal.SIGINT)
        self.batches.append(list(items))

    def progress(self) -> str:
        return f"{len(self.batches)} batches"


@pytest.mark.parametrize(
    ("offset", "limit", "want"),
    [
        (0, None, range(10)),
        (4, None, range(4, 10)),
        (4, 3, range(4, 7)),
        (8, 100, range(8, 10)),
    ],
)
def test_a_part_is_what_offset_and_limit_leave(offset: int, limit: int | None, want: range) -> None:
    assert span(10, offset, limit) == want


def test_an_empty_part_is_refused() -> None:
    with pytest.raises(EvaluationError, match="Offset 10 is past the last of 10 items"):
        span(10, 10, None)


def test_every_item_is_measured_once_in_order() -> None:
    collecting = Collecting()
    assert measure(collecting, Numbers(), range(5, 12), batch_size=3)
    assert collecting.batches == [[5, 6, 7], [8, 9, 10], [11]]


def test_the_progress_bar_tells_how_it_goes(capsys: pytest.CaptureFixture[str]) -> None:
    measure(Collecting(), Numbers(), range(4), batch_size=2)
    assert "4/4" in capsys.readouterr().err


def test_control_c_ends_after_the_batch_that_is_under_way() -> None:
    handler = signal.getsignal(signal.SIGINT)
    collecting = Collecting(interrupt_at=3)
    assert not measure(collecting, Numbers(), range(100), batch_size=2)
    assert collecting.batches == [[0, 1], [2, 3]]
    assert signal.getsignal(signal.SIGINT) is handler

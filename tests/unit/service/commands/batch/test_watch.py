from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pyarrow as pa
import pytest

from service.commands.batch import watch
from service.commands.batch.watch import MachinesLostError, watched

TABLES = [pa.table({"number": [number]}) for number in range(3)]


@pytest.fixture
def stuck() -> Iterator[Iterator[pa.Table]]:
    """Tables of which the second one comes only after the test."""
    ended = threading.Event()

    def tables() -> Iterator[pa.Table]:
        yield TABLES[0]
        ended.wait()

    yield tables()
    ended.set()


def test_tables_come_in_order_whatever_the_cluster_has() -> None:
    assert list(watched(iter(TABLES), lambda: False)) == TABLES


def test_a_run_that_waits_for_lost_machines_is_given_up(stuck: Iterator[pa.Table]) -> None:
    tables = watched(stuck, lambda: False, interval_seconds=0.01, patience_seconds=0.02)
    assert next(tables) == TABLES[0]
    with pytest.raises(MachinesLostError, match="has lost machines"):
        next(tables)


def test_machines_that_come_back_are_waited_for(
    stuck: Iterator[pa.Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0, 0, 50, 55, 100])
    monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    looks = iter([False, True, False])

    def has_room() -> bool:
        if (found := next(looks, None)) is None:
            raise InterruptedError  # it would wait on
        return found

    tables = watched(stuck, has_room, interval_seconds=0.01, patience_seconds=60)
    assert next(tables) == TABLES[0]
    with pytest.raises(InterruptedError):
        next(tables)


def test_nothing_looks_at_the_cluster_any_more_when_a_run_is_given_up(
    stuck: Iterator[pa.Table],
) -> None:
    tables = watched(stuck, lambda: False, interval_seconds=0.01, patience_seconds=0.02)
    next(tables)
    before = signal.getsignal(signal.SIGUSR1)
    with pytest.raises(MachinesLostError):
        next(tables)
    assert signal.getsignal(signal.SIGUSR1) == before
    assert "machines" not in [thread.name for thread in threading.enumerate()]


def test_an_error_of_a_table_is_raised() -> None:
    def tables() -> Iterator[pa.Table]:
        yield TABLES[0]
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(watched(tables(), lambda: True))

from __future__ import annotations

from pathlib import Path

from model.config import Task
from service.processes.handover import (
    MeasuredCost,
    Measurements,
    last_measurements,
    read_measurements,
    write_measurements,
)

MEASURED = Measurements(
    device_name="a device",
    dtypes={"a network": ("bfloat16", "twice the speed")},
    kernels={"('mix', 'one', 64)": "tiles"},
    costs=(MeasuredCost("a network", Task.CLASSIFY, (224, 224), 0.01, 0.002),),
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "engine.measured"
    write_measurements(path, Measurements())
    write_measurements(path, MEASURED)
    assert read_measurements(path) == MEASURED
    assert list(tmp_path.iterdir()) == [path]


def test_without_a_predecessor_nothing_is_known(tmp_path: Path) -> None:
    assert read_measurements(None) == read_measurements(tmp_path / "none") == Measurements()


def test_an_engine_that_is_started_again_goes_on_with_its_own(tmp_path: Path) -> None:
    own, before = tmp_path / "own", tmp_path / "before"
    write_measurements(before, MEASURED)
    assert last_measurements(own, before) == MEASURED
    write_measurements(own, Measurements("another device"))
    assert last_measurements(own, before) == Measurements("another device")
    assert last_measurements(None, None) == Measurements()

from __future__ import annotations

from pathlib import Path

from model.config import Task
from service.processes.handover import (
    MeasuredCost,
    Measurements,
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

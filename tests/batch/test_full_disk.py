"""A part that cannot be written: what ends, and in which order."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray

from service.commands.batch import run as batch_run
from service.commands.batch.part_file import PartWriter
from service.commands.console.exits import REFUSED
from support.batch_runs import Batch, pipeline_here, write_scenes


def test_the_pipeline_ends_while_ray_is_still_there(
    batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    def pipeline(*given: Any) -> Iterator[pa.Table]:
        try:
            yield from pipeline_here(*given)
        finally:
            events.append("pipeline ended")

    @contextmanager
    def session(**_: Any) -> Iterator[Any]:
        try:
            yield ray
        finally:
            events.append("Ray ended")

    def write(*_: Any) -> None:
        events.append("disk full")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(batch_run, "run_pipeline", pipeline)
    monkeypatch.setattr(batch_run, "local_ray", session)
    monkeypatch.setattr(PartWriter, "write", write)
    write_scenes(tmp_path / "photos", 3)
    assert batch("classify", "photos", "--output", "found") == REFUSED
    assert events == ["disk full", "pipeline ended", "Ray ended"]

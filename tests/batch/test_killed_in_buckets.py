"""What a killed run over a bucket leaves on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from service.commands.batch.folder import output_folder


def test_the_part_of_a_killed_run_is_removed_and_that_of_another_stays(
    empty_bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    killed = tmp_path / "overlock-batch-part-killed"
    killed.mkdir()
    (killed / "lock").touch()
    (killed / "part-00000.parquet").touch()
    with output_folder("s3://pets/found").writing("part-00000.parquet") as path:
        path.write_bytes(b"rows")
        output_folder("s3://pets/found")
        assert path.exists()
    assert not list(tmp_path.glob("overlock-batch-part-*"))

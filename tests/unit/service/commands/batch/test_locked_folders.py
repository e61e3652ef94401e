from __future__ import annotations

from pathlib import Path

from service.commands.batch.locked_folders import locked, sweep


def test_folders_of_killed_runs_are_removed_and_those_in_use_stay(tmp_path: Path) -> None:
    for name in ("ov-batch-killed", "ov-batch-used", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "lock").touch()
    with locked(tmp_path / "ov-batch-used"):
        sweep(tmp_path, "ov-batch-")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "ov-batch-used"]

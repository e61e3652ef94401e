from __future__ import annotations

from pathlib import Path

import pytest

from service.processes.start_checks import check_files
from service.settings import SettingsError, load_settings, specs_of


def check(settings: dict[str, str]) -> None:
    loaded = load_settings(settings)
    check_files(loaded, specs_of(loaded))


def test_the_demo_needs_no_files() -> None:
    check({})


def test_every_file_that_cannot_be_used_is_named_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_text("text")
    settings = {
        "classify_model": "overlock_t",
        "classify_weights": str(tmp_path / "w.pth"),
        "segment_labels": str(tmp_path),
        "api_keys_file": "/nowhere/keys",
    }
    with pytest.raises(SettingsError) as refusal:
        check(settings)
    weights, labels, keys = str(refusal.value).splitlines()
    assert weights.startswith(f"OVERLOCK_CLASSIFY_WEIGHTS: {tmp_path}/w.pth ")
    assert labels.startswith(f"OVERLOCK_SEGMENT_LABELS: The labels file {tmp_path} ")
    assert keys.startswith("OVERLOCK_API_KEYS_FILE: /nowhere/keys ")


def test_the_files_of_a_task_that_is_off_do_not_matter() -> None:
    check({"segment_model": "off", "segment_labels": "/nowhere"})

"""``overlock reload`` and SIGHUP: which service, which settings, how much memory."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from support.running_service import RunningService
from support.swapped_models import Models, reload, shown

Start = Callable[..., RunningService]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("models"))


def test_too_little_memory_for_two_generations_is_found_before_they_start(
    models: Models,
    start_faulty: Start,
    runtime: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free = runtime / "free"
    monkeypatch.setenv("FREE_BYTES_FILE", str(free))
    with start_faulty(models_file=str(models.file)) as service:
        free.write_text(str(2**20))
        outcome = reload()
        assert outcome.returncode == 1
        assert "only 1 MiB are free" in outcome.stderr
        assert "only 1 MiB are free" in str(shown(service).reload_error)
        assert len(service.children("service.engine.process")) == 1
        free.write_text(str(2**40))
        assert reload().returncode == 0
        assert shown(service).reload_error is None


def test_sighup_reloads_and_settings_of_variables_are_read_again(
    start_faulty: Start, models: Models, runtime: Path
) -> None:
    weights = models.file.parent / "served.pth"
    weights.write_bytes((models.file.parent / "first.pth").read_bytes())
    with start_faulty(classify_weights=str(weights)) as service:
        weights.unlink()
        weights.write_bytes((models.file.parent / "second.pth").read_bytes())
        service.process.send_signal(signal.SIGHUP)
        service.wait_for(lambda: shown(service).generation == 2)
        assert shown(service).digests == {models.digests["second.pth"]}
        service.process.send_signal(signal.SIGHUP)
        service.wait_for(lambda: shown(service).generation == 3)


def test_of_several_services_one_is_chosen_by_its_process_id(
    start_faulty: Start, runtime: Path
) -> None:
    nothing = reload()
    assert nothing.returncode == 2
    assert f"there is no service of this user in {runtime}" in nothing.stderr
    with start_faulty() as first, start_faulty() as second:
        both = reload()
        assert both.returncode == 2
        assert f"{first.process.pid} ({first.url})" in both.stderr
        assert reload("--pid", str(second.process.pid)).returncode == 0
        assert (shown(first).generation, shown(second).generation) == (1, 2)

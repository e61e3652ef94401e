"""A service that compiles on a CPU: the compiler is the real one, and so is its cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.scenes.scenes import draw_scene
from support.running_service import CLIENT, RunningService
from support.scene_files import png

SETTINGS: dict[str, str | int] = {"compile": "on", "segment_model": "off", "max_batch_size": 1}
CLASSES = 10
COMPILE_SECONDS = 400.0
"""One graph takes a minute on two quiet cores. Larger batches are a second one."""


def scores(service: RunningService, seed: int) -> list[float]:
    answer = CLIENT.post(
        f"{service.url}/v1/classify",
        params={"top_k": CLASSES},
        content=png(draw_scene(seed).image),
        headers={"Content-Type": "image/png"},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    by_class = sorted(answer.json()["predictions"], key=lambda each: int(each["class_id"]))
    return [each["score"] for each in by_class]


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
def test_compiled_answers_are_the_same_and_the_next_start_finds_the_code(
    tmp_path: Path, demo: RunningService
) -> None:
    want = np.array([scores(demo, seed) for seed in range(6)])
    cold = RunningService(cache_dir=str(tmp_path), **SETTINGS)
    cold.start_seconds = COMPILE_SECONDS
    with cold as service:
        (model,) = service.get("/v1/models").json()["models"]
        assert (model["compiled"], model["compiled_reason"]) == (True, "OVERLOCK_COMPILE=on")
        assert "compiled" in service.log
        np.testing.assert_allclose([scores(service, seed) for seed in range(6)], want, atol=1e-5)
        assert service.metric("overlock_recompiles_total") == 0
    compiled = written(tmp_path)
    assert compiled
    with RunningService(cache_dir=str(tmp_path), **SETTINGS) as service:
        np.testing.assert_allclose(scores(service, 0), want[0], atol=1e-5)
    assert written(tmp_path) == compiled  # nothing was compiled again


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
def test_of_two_services_that_start_together_on_one_cache_one_compiles(tmp_path: Path) -> None:
    services = [RunningService(cache_dir=str(tmp_path), **SETTINGS) for _ in range(2)]
    for each in services:
        each.start_seconds = COMPILE_SECONDS

    def waiting() -> list[RunningService]:
        return [each for each in services if "waiting for it" in each.log]

    services[0].wait_for(lambda: bool(waiting()), COMPILE_SECONDS)
    (second,) = waiting()
    (first,) = (each for each in services if each is not second)
    with first:
        compiled = written(tmp_path)
        assert compiled
        with second:
            assert written(tmp_path) == compiled


def written(folder: Path) -> dict[str, int]:
    """Return the libraries that the compiler made, with the moments when it did."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*.so")}


def test_compiling_by_setting_without_a_compiler_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AssertionError, match="COMPILE=on cannot be met: there is no C"):
        RunningService(cache_dir=str(tmp_path), **SETTINGS).__enter__()

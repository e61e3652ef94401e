"""The real Prometheus scrapes the real service; every panel has something to show."""

from __future__ import annotations

import math
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from model.scenes.scenes import draw_scene
from support.compose import panels
from support.running_prometheus import RunningPrometheus, configuration_for, reason
from support.running_service import CLIENT, RunningService
from support.scene_files import png

pytestmark = pytest.mark.skipif(reason() is not None, reason=str(reason()))

SCRAPE_SECONDS = 0.5
WINDOW = "5s"
"""Range of a rate, which Grafana calculates from the scrape interval."""

POISON, TOO_LARGE, DEADLY = (255, 0, 0), (255, 128, 0), (255, 0, 255)
"""Colours that tests/fault/injection knows."""


@pytest.fixture(scope="module")
def prometheus(
    start_faulty: Callable[..., RunningService], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningPrometheus]:
    """Watches a service that everything happens to."""
    folder = tmp_path_factory.mktemp("prometheus")
    with (
        start_faulty(segment_model="demo") as service,
        RunningPrometheus(
            folder, f"127.0.0.1:{service.port}", f"{1000 * SCRAPE_SECONDS:.0f}ms"
        ) as prometheus,
    ):
        prometheus.wait_for("count_over_time(overlock_model_info[1m]) >= 2")
        send_traffic(service)
        # The last image kills two engines and fails. Two more scrapes make rates of it.
        for last in ("overlock_engine_restarts_total == 2", "overlock_requests_failed_total == 5"):
            prometheus.wait_for(f"count_over_time(({last})[1m:500ms]) > 2")
        yield prometheus


def send_traffic(service: RunningService) -> None:
    def post(task: str, body: bytes, media: str = "image/png") -> int:
        headers = {"Content-Type": media}
        url = f"{service.url}/v1/{task}"
        return CLIENT.post(url, content=body, headers=headers, timeout=60).status_code

    scene = png(draw_scene(1).image)
    with ThreadPoolExecutor(8) as callers:
        started = time.monotonic()
        while time.monotonic() - started < 4 * SCRAPE_SECONDS:
            for task in ("classify", "segment"):
                assert {*callers.map(lambda _, t=task: post(t, scene), range(8))} == {200}
    assert post("classify", b"no image") == 422
    assert post("classify", b"no image", "text/plain") == 415
    leave_during_upload(service)
    assert post("classify", colour(POISON)) == 500
    assert post("classify", colour(TOO_LARGE)) == 503
    assert post("classify", colour(DEADLY)) == 500


def colour(value: tuple[int, int, int]) -> bytes:
    return png(np.full((64, 64, 3), value, np.uint8))


def leave_during_upload(service: RunningService) -> None:
    def body() -> Iterator[bytes]:
        yield b"begun"
        raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        CLIENT.post(f"{service.url}/v1/classify", content=body())


def filled(expression: str) -> str:
    """Do what Grafana does with a query's variables."""
    return expression.replace("$__rate_interval", WINDOW).replace("$instance", ".*")


QUERIES = [
    pytest.param(target["expr"], id=f"{panel['title']}-{target['refId']}")
    for panel in panels()
    for target in panel["targets"]
]


@pytest.mark.parametrize("expression", QUERIES)
def test_a_panel_shows_something(prometheus: RunningPrometheus, expression: str) -> None:
    series = prometheus.query_range(filled(expression), time.time() - 60, SCRAPE_SECONDS)
    values = [float(value) for each in series for _, value in each["values"]]
    assert any(map(math.isfinite, values)), expression


@pytest.mark.parametrize(
    "title",
    [
        *("Requests by status", "Requests by task", "Latency", "A batch on the device, mean"),
        *("Batches by trigger", "Answers of 5xx", "Refused, by reason", "Clients that left"),
        *("Device busy", "Restarts", "Out of device memory", "Failed batches and outputs"),
    ],
)
def test_what_happened_is_more_than_zero(prometheus: RunningPrometheus, title: str) -> None:
    (panel,) = [panel for panel in panels() if panel["title"] == title]
    expression = filled(panel["targets"][0]["expr"])
    series = prometheus.query_range(expression, time.time() - 60, SCRAPE_SECONDS)
    assert any(float(value) > 0 for each in series for _, value in each["values"]), expression


def test_every_alert_rule_is_evaluated(prometheus: RunningPrometheus) -> None:
    rules = prometheus.rules()
    assert rules
    assert [rule["name"] for rule in rules if rule["health"] == "err"] == []


def test_promtool_finds_nothing_wrong(tmp_path: Path) -> None:
    configuration = configuration_for(tmp_path, ["overlock:8000"], "15s")
    done = subprocess.run(
        ["promtool", "check", "config", "--lint-fatal", configuration],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"SUCCESS: \d+ rules found", done.stdout)

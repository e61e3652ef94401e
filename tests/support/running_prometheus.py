"""The real Prometheus, with its configuration from Compose."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Self

import httpx
import yaml

from support.compose import configuration_of_prometheus, mounts
from support.running_service import CLIENT, free_port
from support.shared_log import text_so_far

START_SECONDS = 30.0


def reason() -> str | None:
    """Say why Prometheus cannot be started here; None if it can."""
    missing = [tool for tool in ("prometheus", "promtool") if shutil.which(tool) is None]
    return f"{' and '.join(missing)} missing: docker/install-prometheus.sh" if missing else None


def configuration_for(folder: Path, targets: list[str], interval: str) -> Path:
    """Write Compose's configuration, with other targets and paths, and return the file."""
    configuration = configuration_of_prometheus()
    configuration["global"] = {"scrape_interval": interval, "evaluation_interval": interval}
    for job in configuration["scrape_configs"]:
        job["static_configs"] = [{"targets": targets}]
    inside = mounts("prometheus")
    configuration["rule_files"] = [str(inside[path]) for path in configuration["rule_files"]]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(configuration))
    return path


class RunningPrometheus:
    """Prometheus scraping one service; ready when entered, gone when left.

    Args:
        folder: for its files.
        target: host and port.
        interval: between scrapes, as Prometheus writes it.
    """

    def __init__(self, folder: Path, target: str, interval: str) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={configuration_for(folder, [target], interval)}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={self.url.removeprefix('http://')}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def __enter__(self) -> Self:
        try:
            self.wait_for("up == 1")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._log.close()

    def wait_for(self, expression: str) -> None:
        """Wait until an expression has a value."""
        until = time.monotonic() + START_SECONDS
        while True:
            assert self._process.poll() is None, self._said()
            try:
                if self.query(expression):
                    return
            except httpx.TransportError:
                pass
            assert time.monotonic() < until, f"waited in vain for {expression}\n{self._said()}"
            time.sleep(0.05)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return an expression's series as they are now."""
        return self._ask("query", {"query": expression})

    def query_range(self, expression: str, start: float, step_seconds: float) -> list[Any]:
        """Return an expression's series since a moment, UNIX seconds."""
        span: dict[str, str | float] = {"start": start, "end": time.time(), "step": step_seconds}
        return self._ask("query_range", {"query": expression, **span})

    def rules(self) -> list[dict[str, Any]]:
        """Return the alert rules as Prometheus evaluates them."""
        answer = CLIENT.get(f"{self.url}/api/v1/rules").raise_for_status().json()
        return [rule for group in answer["data"]["groups"] for rule in group["rules"]]

    def _ask(self, path: str, parameters: Mapping[str, str | float]) -> list[dict[str, Any]]:
        response = CLIENT.get(f"{self.url}/api/v1/{path}", params=dict(parameters))
        if response.status_code == 503:  # it starts
            return []
        answer = response.json()
        assert answer["status"] == "success", answer
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def _said(self) -> str:
        return text_so_far(self._log)

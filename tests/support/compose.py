"""Readers of the repository's Compose files, as Compose understands them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "docker" / "grafana" / "dashboards" / "overlock.json"


def compose(name: str = "compose.yaml") -> dict[str, Any]:
    """Read a Compose file, with the defaults of its variables."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (ROOT / name).read_text(encoding="utf-8"))
    read: dict[str, Any] = yaml.safe_load(text)
    return read


def environment_file(text: str, *, uncomment: bool = False) -> dict[str, str]:
    """Read a file of variables; on request also those that are commented out."""
    mark = r"(?:# )?" if uncomment else ""
    return dict(re.findall(rf"^{mark}(\w+)=(.*)$", text, re.MULTILINE))


def mounts(service: str) -> dict[str, Path]:
    """Return what a service sees of this repository: its path inside, and the file or folder."""
    volumes = compose()["services"][service]["volumes"]
    pairs = (
        volume.split(":")[:2] if isinstance(volume, str) else [volume["source"], volume["target"]]
        for volume in volumes
    )
    return {inside: ROOT / outside for outside, inside in pairs if outside.startswith("./")}


def configuration_of_prometheus() -> dict[str, Any]:
    """Read the file that Compose gives to Prometheus."""
    path = mounts("prometheus")["/etc/prometheus/prometheus.yml"]
    read: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return read


def panels() -> list[dict[str, Any]]:
    """Return the dashboard's panels, without the rows' titles."""
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]

"""Package a chart and render releases of it, or lint them, by Helm's SDK; print JSON."""

from __future__ import annotations

import json
import sys
import tempfile
from typing import Any

import helm_python  # type: ignore[import-not-found]

Release = tuple[dict[str, Any], str, str]
"""Values, a name and a namespace."""


def rendered(chart: Any, release: Release) -> dict[str, Any]:
    """Return the text of every file, or Helm's complaint."""
    values, name, namespace = release
    try:
        return {"files": chart.render(values, name=name, namespace=namespace)}
    except helm_python.HelmError as error:
        return {"error": str(error)}


def linted(folder: str, values: dict[str, Any]) -> list[str]:
    """Return the warnings and errors of ``helm lint --strict``."""
    messages = helm_python.lint(folder, values, strict=True)["messages"]
    return [f"{each['path']}: {each['error']}" for each in messages if each["severity"] > 1]


def main() -> None:
    """Read what to do, the chart's folder, and releases or values from the command line."""
    command, folder, given = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    if command == "lint":
        write([linted(folder, values) for values in given])
        return
    with tempfile.TemporaryDirectory() as place:
        archive = helm_python.package(folder, destination=place)
        with helm_python.Chart.load(archive) as chart:
            write([rendered(chart, release) for release in given])


def write(found: list[Any]) -> None:
    """Answer the test."""
    sys.stdout.write(json.dumps(found) + "\n")


main()

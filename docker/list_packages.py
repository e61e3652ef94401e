"""Print the packages of an environment and of its Debian as a CycloneDX document.

In the Dockerfile, by an interpreter that has cyclonedx-bom: ``list_packages.py PYTHON``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

FIELDS = r"${Package}\t${Version}\t${Architecture}\t${source:Package}\n"


def main(python: str) -> None:
    """Print the document.

    Args:
        python: the environment's interpreter.
    """
    command = [
        *(sys.executable, "-m", "cyclonedx_py", "environment", python),
        *("--output-reproducible", "--output-format", "JSON", "--output-file", "-"),
    ]
    listed = subprocess.run(command, check=True, stdout=subprocess.PIPE)  # noqa: S603
    document: dict[str, Any] = json.loads(listed.stdout)
    document["components"] += debian_packages()
    json.dump(document, sys.stdout, indent=1)


def debian_packages() -> list[dict[str, Any]]:
    """Return what dpkg knows to be installed, as CycloneDX components."""
    words = dict(
        line.split("=", 1)
        for line in Path("/etc/os-release").read_text("utf-8").split("\n")
        if line
    )
    release = f"{words['ID'].strip(chr(34))}-{words['VERSION_ID'].strip(chr(34))}"
    query = ["dpkg-query", "--show", f"--showformat={FIELDS}"]
    done = subprocess.run(query, check=True, text=True, stdout=subprocess.PIPE)  # noqa: S603
    components = []
    for line in done.stdout.splitlines():
        name, version, architecture, source = line.split("\t")
        url = f"pkg:deb/debian/{quote(name)}@{quote(version)}?arch={architecture}&distro={release}"
        components.append(
            {
                "bom-ref": url,
                "type": "library",
                "name": name,
                "version": version,
                "purl": url,
                "properties": [{"name": "debian:source", "value": source}],
            }
        )
    return components


if __name__ == "__main__":
    main(*sys.argv[1:])

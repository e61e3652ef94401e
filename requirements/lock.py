"""Write the lock files: ``make lock``.

A version changes only where pyproject.toml or another lock asks for it, or with ``--upgrade``.
Torch is in none of them, so that a CPU build satisfies them too: ``torch.txt`` states it. What it
takes by range is pinned like everything else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).parent
PROJECT = "pyproject.toml"
OLDEST_PYTHON = "3.11"
PLATFORM = "manylinux_2_28_x86_64"
LINUX_ONLY = 'platform_system == "Linux"'
"""What torch's metadata has of the packages that only its CUDA build needs."""

DEVELOPMENT, EXTRAS, RUNTIME = "development.lock", "extras.lock", "runtime.lock"
INSTALLER, CUDA = "installer.lock", "cuda.lock"
SERVED_EXTRA = "otel"
"""The only extra of ``make serve`` and of every image."""


def main(options: Sequence[str]) -> None:
    """Write every lock file.

    Args:
        options: more of uv's, such as ``--upgrade``.
    """
    project = tomllib.loads((FOLDER.parent / PROJECT).read_text("utf-8"))["project"]
    torch = (FOLDER / "torch.txt").read_text("utf-8").strip()
    with tempfile.TemporaryDirectory() as folder:
        requirements = requirements_of(torch, folder)
        cuda = [each for each in requirements if LINUX_ONLY in each]
        (Path(folder) / "cuda.in").write_text("\n".join(cuda))
        settings = Path(folder) / "uv.toml"
        settings.write_text(torch_metadata(torch, [e for e in requirements if e not in cuda]))
        write(CUDA, f"{folder}/cuda.in", *options)
        write(INSTALLER, "requirements/installer.in", *options)
        shared = ["--config-file", str(settings), "--no-emit-package", "torch", *options]
        write(
            DEVELOPMENT, PROJECT, "--extra", "dev", "--constraint", f"requirements/{CUDA}", *shared
        )
        shared = ["--constraint", f"requirements/{DEVELOPMENT}", *shared]
        write(RUNTIME, PROJECT, "--extra", SERVED_EXTRA, *shared)
        extras = [name for name in project["optional-dependencies"] if name != "dev"]
        write(EXTRAS, PROJECT, *(word for name in extras for word in ("--extra", name)), *shared)


def requirements_of(torch: str, folder: str) -> list[str]:
    """Return what the CUDA build requires: pip reads it from the index, beside the wheel."""
    command = [
        *(sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed"),
        *("--no-deps", "--only-binary", ":all:", "--platform", PLATFORM),
        *("--python-version", OLDEST_PYTHON, "--target", folder, "--report", "-", torch),
    ]
    # Not a CPU build that this machine has at hand.
    elsewhere = {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": ""}
    asked = subprocess.run(  # noqa: S603
        command, env=os.environ | elsewhere, check=True, stdout=subprocess.PIPE
    )
    (torch_report,) = json.loads(asked.stdout)["install"]
    listed: list[str] = torch_report["metadata"]["requires_dist"]
    return [each for each in listed if "extra ==" not in each]


def torch_metadata(torch: str, requirements: list[str]) -> str:
    """Return uv's setting by which torch requires these alone."""
    name, _, version = torch.partition("==")
    return (
        f'[[dependency-metadata]]\nname = "{name}"\nversion = "{version}"\n'
        f"requires-dist = {json.dumps(requirements)}\n"
    )


def write(lock: str, source: str, *options: str) -> None:
    """Resolve for every Python and platform, and keep the versions that the file has already."""
    command = [
        *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal"),
        *("--python-version", OLDEST_PYTHON, "--generate-hashes", "--no-annotate"),
        *("--custom-compile-command", "make lock", source, *options),
        *("--output-file", f"requirements/{lock}"),
    ]
    subprocess.run(command, cwd=FOLDER.parent, check=True)  # noqa: S603


if __name__ == "__main__":
    main(sys.argv[1:])

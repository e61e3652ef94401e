"""Virtual environments of other people's clients, made once on a machine."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "overlock-service-tests"

UNREACHABLE = ("Failed to fetch", "Could not connect", "error sending request", "dns error")
"""Words of uv where no package index answers."""

CLIENT_SECONDS = 90
"""Far above what a client takes: kserve alone is imported for seconds where others compute."""


def client_environment(requirements: Path) -> Path:
    """Return the folder of an environment with exactly the packages of a file.

    It is made when it is asked for first, in about ten seconds and 370 MB at most. The test is
    skipped if no package index can be reached.
    """
    text = requirements.read_bytes() + sys.version.encode()
    folder = CACHE / f"{requirements.stem}-{hashlib.sha256(text).hexdigest()[:12]}"
    ready = folder / "ready"
    CACHE.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other processes of pytest wait
        if not ready.exists():
            shutil.rmtree(folder, ignore_errors=True)
            _uv("venv", "--python", sys.executable, str(folder))
            python = ["--python", str(folder / "bin" / "python")]
            _uv("pip", "install", "--no-deps", *python, "--requirement", str(requirements))
            ready.touch()
    return folder


def run_client(environment: Path, script: Path, *arguments: str) -> Any:
    """Run a script in an environment and return the JSON that it prints last."""
    done = subprocess.run(
        [str(environment / "bin" / "python"), "-I", str(script), *arguments],
        capture_output=True,
        text=True,
        timeout=CLIENT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def _uv(*words: str) -> None:
    command = [sys.executable, "-m", "uv", "--quiet", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and any(word in done.stderr for word in UNREACHABLE):
        pytest.skip(f"no package index can be reached for the clients: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stderr

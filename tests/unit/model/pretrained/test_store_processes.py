"""Several processes share one cache."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from model.pretrained.partial_file import PartialDownload
from model.pretrained.records import weights_path
from model.pretrained.store import ensure_cached, load_cached
from support.published_weights import FILE, KEPT, names_in
from support.release_server import ReleaseServer, hold_after

INJECTION = Path(__file__).parents[3] / "release_injection"


class Downloader:
    """``overlock download demo`` in a process of its own."""

    def __init__(self, page: ReleaseServer, cache: Path) -> None:
        paths = [str(INJECTION), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "service.commands.download", "demo", "--cache-dir", str(cache)],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, paths)),
                "TEST_RELEASE_URL": page.url,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self) -> tuple[int, str, str]:
        output, errors = self.process.communicate(timeout=60)
        return self.process.returncode, output, errors


@pytest.mark.slow
def test_of_two_processes_one_downloads_and_the_other_waits(
    page: ReleaseServer, folder: Path
) -> None:
    page.script = [hold_after(1_000_000)]
    downloaders = [Downloader(page, folder.parent) for _ in range(2)]
    assert page.held.acquire(timeout=60)
    lines = ""
    waiting = "Another process is fetching demo's weights; waiting for it.\n"
    # One of them says so as soon as it gets to the lock; the other holds it.
    with selectors.DefaultSelector() as selector:
        for each in downloaders:
            assert each.process.stderr is not None
            selector.register(each.process.stderr, selectors.EVENT_READ)
        while waiting not in lines:
            for key, _ in selector.select(60):
                lines += key.fileobj.readline()  # type: ignore[union-attr]
    page.release.set()
    outcomes = [each.finish() for each in downloaders]
    assert [code for code, _, _ in outcomes] == [0, 0]
    assert {output for _, output, _ in outcomes} == {f"{weights_path('demo', folder)}\n"}
    assert [asked.range for asked in page.asked] == [None, "bytes=1000000-"]
    assert names_in(folder) == KEPT


@pytest.mark.slow
def test_after_a_killed_download_the_next_goes_on(page: ReleaseServer, folder: Path) -> None:
    page.script = [hold_after(2_000_000)]
    first = Downloader(page, folder.parent)
    assert page.held.acquire(timeout=60)
    part = PartialDownload(folder / f"{FILE}.part")
    while part.done_bytes < 1_000_000:  # the rest may still be on its way
        assert first.process.poll() is None
    first.process.send_signal(signal.SIGKILL)
    assert first.finish()[0] == -signal.SIGKILL
    there = part.done_bytes
    ensure_cached("demo", folder)
    assert page.asked[-1].range == f"bytes={there}-"
    assert there >= 1_000_000
    load_cached("demo", folder)

from __future__ import annotations

import argparse
import os
import signal

import pytest

from service.processes import heartbeat


def test_an_announcement_to_a_supervisor_that_is_gone_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heartbeat, "_announcements", -1)
    before = signal.getsignal(signal.SIGHUP)
    read, write = os.pipe()
    try:
        heartbeat.begin(argparse.Namespace(announcements_fd=write))
        heartbeat.announce({"models": []})
        assert os.read(read, 100) == b'{"models": []}\n'
        heartbeat.request({"name": "birds"})
        assert os.read(read, 100) == b'{"request": {"name": "birds"}}\n'
        os.close(read)
        heartbeat.announce({"models": []})
        heartbeat.request({"name": "birds"})
        heartbeat.announce_failure("no memory")
    finally:
        os.close(write)
        signal.signal(signal.SIGHUP, before)

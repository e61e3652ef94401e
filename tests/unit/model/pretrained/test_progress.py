"""How far a download is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import io
import logging
import sys

import pytest

from model.pretrained import progress


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_every_ten_seconds_says_how_much_and_how_fast(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    with progress.log_lines("x.pth", clock) as report:
        for clock.now, done in ((0.0, 0), (9.9, 10**6), (10.0, 20 * 10**6), (30.0, 80 * 10**6)):
            report(done, 100 * 10**6)
        clock.now = 40.0
        report(85 * 10**6, None)
    assert caplog.messages == [
        "x.pth: 20.0 MB of 100.0 MB (20 %), 2.0 MB/s",
        "x.pth: 80.0 MB of 100.0 MB (80 %), 3.0 MB/s",
        "x.pth: 85.0 MB, 0.5 MB/s",
    ]


def test_a_download_that_starts_over_has_no_negative_speed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    with progress.log_lines("x.pth", clock) as report:
        for clock.now, done in ((10.0, 50 * 10**6), (20.0, 10**6)):
            report(done, 100 * 10**6)
    assert caplog.messages[1] == "x.pth: 1.0 MB of 100.0 MB (1 %), 0.0 MB/s"


def test_an_empty_file_is_no_division_by_zero(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    with progress.log_lines("x.pth", clock) as report:
        clock.now = 10.0
        report(0, 0)
    assert caplog.messages == ["x.pth: 0.0 MB of 0.0 MB (100 %), 0.0 MB/s"]


def test_a_terminal_gets_a_bar_with_log_lines_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress.automatic("x.pth") as report:
        report(30 * 10**6, 100 * 10**6)
        logging.getLogger("somewhere").warning("The line dropped.")
        report(0, 100 * 10**6)
        report(100 * 10**6, 100 * 10**6)
    text = terminal.getvalue()
    assert "x.pth:  30%" in text
    assert "The line dropped.\n" in text
    assert text.rpartition("\r")[2].startswith("x.pth: 100%")


def test_anything_else_gets_lines(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    caplog.set_level(logging.INFO)
    with progress.automatic("x.pth") as report:
        report(1, 2)
    assert caplog.messages[0].startswith("x.pth: 0.0 MB of 0.0 MB (50 %)")

from __future__ import annotations

import io

import pytest

from service.commands.console.table import escaped, heading


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def capable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_a_heading_is_bold_on_a_terminal() -> None:
    assert heading("file", Terminal()) == "\x1b[1mfile\x1b[0m"


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_terminal_may_want_it_plain(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert heading("file", Terminal()) == "file"


def test_a_pipe_gets_no_escape_codes() -> None:
    assert heading("file", io.StringIO()) == "file"


def test_a_name_cannot_command_the_terminal() -> None:
    assert escaped("näm \x1b[31m\n\udce4.png") == "näm \\x1b[31m\\n\\udce4.png"

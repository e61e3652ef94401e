"""The command as a function."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from service.commands.evaluate import __main__


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Call the command and return its exit code."""

    def call(*arguments: str | Path) -> int:
        monkeypatch.setattr(sys, "argv", ["evaluate", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            __main__.main()
        assert isinstance(exit_.value.code, int)
        return exit_.value.code

    return call

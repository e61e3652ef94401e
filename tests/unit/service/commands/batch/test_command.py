from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

from service.commands.batch import command
from service.commands.console.exits import RefusedError


def test_help_loads_neither_ray_nor_arrow_nor_torch() -> None:
    code = (
        "import sys, argparse, service.commands.batch.command as c;"
        "c.fill_parser(argparse.ArgumentParser());"
        "print({'ray', 'pyarrow', 'torch', 'fsspec'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == "ray" else name)
    with pytest.raises(RefusedError, match=r"needs ray: install the extra batch: pip"):
        command.run(argparse.Namespace())


def test_a_task_that_there_is_not_is_refused_with_those_that_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    parser = argparse.ArgumentParser()
    command.fill_parser(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["explain", "photos"])
    assert "(choose from 'classify', 'segment', 'detect', 'embed')" in capsys.readouterr().err

from __future__ import annotations

import argparse
import re
import subprocess
import sys

import pytest

from model.config import CLASSIFIERS, DETECTORS, SEGMENTERS
from service.commands.evaluate.arguments import fill_parser

REQUIRED = ["--model", "demo", "--weights", "demo", "--data", "demo"]


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    fill_parser(parser)
    return parser


def help_of(
    parser: argparse.ArgumentParser,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    *arguments: str,
) -> str:
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit):
        parser.parse_args([*arguments, "--help"])
    return capsys.readouterr().out


@pytest.mark.parametrize("task", ["classify", "segment", "detect"])
def test_help_tells_the_default_of_every_option_that_has_one(
    parser: argparse.ArgumentParser,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    task: str,
) -> None:
    text = help_of(parser, capsys, monkeypatch, task).replace("[V ...]", "")
    options = re.split(r"\n  (?=-)", text.split("example:")[0])[1:]
    described = {option.split()[0].rstrip(","): option for option in options}
    for name, default in vars(parser.parse_args([task, *REQUIRED])).items():
        option = "--" + name.replace("_", "-")
        if option not in described or option in {"--model", "--weights", "--data"}:
            continue
        shown = re.findall(r"\[(.+)\]", " ".join(described.pop(option).split()))
        assert len(shown) == 1, option
        if default not in {None, False}:
            assert shown == [str(default)]
    assert described.keys() == {"-h", "--model", "--weights", "--data"}


@pytest.mark.parametrize(
    ("task", "models"),
    [("classify", CLASSIFIERS), ("segment", SEGMENTERS), ("detect", DETECTORS)],
)
def test_help_names_every_model(
    parser: argparse.ArgumentParser,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    task: str,
    models: dict[str, object],
) -> None:
    words = re.findall(r"\w+", help_of(parser, capsys, monkeypatch, task))
    assert models.keys() <= set(words)


@pytest.mark.parametrize("task", [(), ("classify",), ("segment",), ("detect",), ("merge",)])
def test_help_fits_into_100_columns(
    parser: argparse.ArgumentParser,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    task: tuple[str, ...],
) -> None:
    lines = help_of(parser, capsys, monkeypatch, *task).splitlines()
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--limit", "0", "'0' is not a whole number from 1 on"),
        ("--offset", "-1", "'-1' is not a whole number from 0 on"),
        ("--batch-size", "many", "'many' is not a whole number from 1 on"),
        ("--device", "gpu", "'gpu' is not auto, cpu or cuda:N"),
        ("--dtype", "float64", "invalid choice: 'float64'"),
        ("--input-size", "large", "invalid int value: 'large'"),
        ("--interpolation", "lanczos", "invalid choice: 'lanczos'"),
        ("--mean", "grey", "invalid float value: 'grey'"),
    ],
)
def test_a_wrong_value_is_refused(
    parser: argparse.ArgumentParser,
    capsys: pytest.CaptureFixture[str],
    option: str,
    value: str,
    message: str,
) -> None:
    with pytest.raises(SystemExit) as exit_:
        parser.parse_args(["classify", *REQUIRED, option, value])
    assert exit_.value.code == 2
    assert f"overlock evaluate classify: error: argument {option}: {message}" in (
        capsys.readouterr().err
    )


def test_the_options_are_known_without_torch() -> None:
    code = "import sys, service.commands.evaluate.arguments; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

"""An option of several commands is described in the same words, and the documents know it."""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Iterator
from importlib import import_module

import pytest

from service.cli import COMMANDS
from support.documents import ROOT

OF_ITS_OWN = {
    "--batch-size": "predict has one for each shape of images",
    "--cache-dir": "download and evaluate keep weights alone there",
    "--concurrency": "bench takes several levels",
    "--dtype": "evaluate measures in float32 unless it is told otherwise",
    "--data": "each task has a layout of its own",
    "--format": "batch does not show it for tasks that have none",
    "--grpc-port": "serve listens on it, bench calls it",
    "--image": "bench sends it, export compares on it",
    "--images": "bench sends so many at once, evaluate reads a folder of them",
    "--json": "lines or one object",
    "--max-batch-size": "plan tries several",
    "--max-detections": "evaluate counts them, predict shows them",
    "--models-file": "predict takes one model of it",
    "--model": "each task has models of its own",
    "--output": "evaluate writes a report, export a network",
    "--rate": "bench takes several levels",
    "--save": "each task has something of its own to draw or write",
    "--task": "bench and plan load one of three, export knows by the name, but for the demo",
    "--timeout": "of a request, with retries or without",
}
"""Options that mean another thing in another command, each with the difference."""


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from parsers(each)


def all_parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for name, (module, _) in COMMANDS.items():
        command = argparse.ArgumentParser(prog=f"overlock {name}")
        import_module(module).fill_parser(command)
        for parser in parsers(command):
            yield name, parser


def words_of(action: argparse.Action) -> str:
    """Return what an option is, without what one command alone adds to it, and its default."""
    return re.split(r"[;\[]", action.help or "")[0].strip()


def test_an_option_is_the_same_in_all_commands() -> None:
    words: dict[str, set[str]] = defaultdict(set)
    for _, parser in all_parsers():
        for action in parser._actions:
            for option in action.option_strings:
                words[option].add(words_of(action))
    differing = {option for option, found in words.items() if len(found) > 1}
    assert differing == set(OF_ITS_OWN)


@pytest.mark.parametrize(
    "document", ["README.md", *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))]
)
def test_the_documents_name_options_that_exist(document: str) -> None:
    options: dict[str, set[str]] = defaultdict(set)
    for name, parser in all_parsers():
        options[name] |= set(parser._option_string_actions)
    text = (ROOT / document).read_text("utf-8").replace("\\\n", " ")
    for name, rest in re.findall(r"overlock (\w+)\b([^`\n|>#]*)", text):
        used = set(re.findall(r"(?<!\S)--[a-z][a-z0-9-]*", rest))
        assert used <= options.get(name, used), f"overlock {name}"

"""The pages on weights say what the code does."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from model.checkpoints.official_names import naming_of
from model.pretrained.assets import ASSETS
from service.commands.evaluate.arguments import fill_parser
from support.checkpoints import official_shapes

DOCS = Path(__file__).parents[2] / "docs"
WEIGHTS = (DOCS / "checkpoints.md").read_text(encoding="utf-8")
MAP = (DOCS / "from-the-authors-code.md").read_text(encoding="utf-8")


def test_the_published_files_are_those_that_are_downloaded() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `([\w.]+\.pth)` \|$", WEIGHTS, re.MULTILINE)
    assert dict(rows) == ASSETS


def test_the_map_of_parameters_is_the_renaming() -> None:
    _, _, section = MAP.partition("## Parameters\n")
    rows = re.findall(r"^\| `(\S+)` \| `?([^`\n]+?)`? \|$", section, re.MULTILINE)
    assert len(rows) > 50
    files = [official_shapes(f"{kind}overlock_xt") for kind in ("", "upernet_", "mask_rcnn_")]
    for official, ours in rows:
        entry = f"{official}.weight"
        names = next(file for file in files if entry in file)
        assert naming_of(names)(entry) == f"{ours}.weight"


def test_the_options_of_measuring_exist() -> None:
    section = MAP.partition("## Measuring\n")[2].partition("## ")[0]
    rows = re.findall(r"^\| (`--[^|]+) \| ([^|]+) \|$", section, re.MULTILINE)
    assert len(rows) == 11
    required = ["classify", "--model", "demo", "--data", "demo", "--weights", "demo"]
    parser = argparse.ArgumentParser()
    fill_parser(parser)
    for theirs, ours in rows:
        same = theirs if ours.startswith("the same") else ours
        for words in re.findall(r"`(--[^`]+)`", same):
            assert parser.parse_args([*required, *words.split()])


@pytest.mark.parametrize("text", [WEIGHTS, MAP], ids=["weights", "map"])
def test_every_file_that_is_named_exists(text: str) -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "//" not in link]
    paths = re.findall(r"`(model/[\w/]+\.py)`", text)
    assert [path for path in links if not (DOCS / path).exists()] == []
    assert [path for path in paths if not (DOCS.parent / path).exists()] == []

"""The pages on weights say what the code does."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from model.checkpoints.hub_config import CONFIG_FILE, WEIGHTS_FILES
from model.checkpoints.official_names import naming_of
from model.checkpoints.stated_input import _WORDS, NESTED_PLACES, PLACES
from model.config import CLASSIFIERS, DETECTORS, SEGMENTERS, ClassificationGeometry
from model.images.input_config import MAXIMUM_INPUT_SIZE, MINIMUM_INPUT_SIZE
from model.pretrained.assets import ASSETS
from model.remote.addresses import parse_address
from model.zoo import create_model, load_model
from service.commands.evaluate.arguments import fill_parser
from support.checkpoints import official_shapes, training_files

DOCS = Path(__file__).parents[2] / "docs"
WEIGHTS = (DOCS / "checkpoints.md").read_text(encoding="utf-8")
FIRST = "patch_embed1.0.weight"
MAP = (DOCS / "from-the-authors-code.md").read_text(encoding="utf-8")


def test_the_published_files_are_those_that_are_downloaded() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `([\w.]+\.pth)` \|$", WEIGHTS, re.MULTILINE)
    assert dict(rows) == ASSETS


def test_the_addresses_of_the_table_are_addresses() -> None:
    table = section("Weights from a hub, a bucket or a web server")
    rows = re.findall(r"\| (`(?:hf|s3|gs|https)://[^|]*) \| [^|]*\| [^|]*\| ([^|]*) \|", table)
    assert len(rows) == 4
    for given, pinned in rows:
        addresses = [parse_address(filled_in(text)) for text in re.findall(r"`([^`]+)`", given)]
        texts = re.findall(r"`([^`]+)`", pinned)
        forms = [parse_address(filled_in(text)) for text in texts] or addresses
        assert all(form.is_pinned for form in forms)
        assert {type(each) for each in addresses} == {type(form) for form in forms}


def filled_in(address: str) -> str:
    for word, value in (("COMMIT", "0" * 40), ("DIGEST", "0" * 64), ("GENERATION", "1")):
        address = address.replace(word, value)
    return address


def section(title: str) -> str:
    """The text under a heading, in one line."""
    text = WEIGHTS.partition(f"## {title}\n")[2].partition("\n## ")[0]
    return " ".join(text.split())


def test_the_table_of_forms_says_where_the_weights_of_each_lie(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cells = [line.strip("| ").split(" | ") for line in WEIGHTS.splitlines() if "|" in line]
    rows = {row[0]: " ".join(row[1:]) for row in cells}
    raw, ema = ({FIRST: torch.tensor(value)} for value in (0.0, 1.0))
    files = training_files(monkeypatch, raw, ema)
    for form in set(files) - {"state_dict alone", "a folder's path"}:
        (row,) = (text for saved_by, text in rows.items() if form.partition(",")[0] in saved_by)
        for key in keys_to_weights(files[form]):
            assert f"`{key}`" in row, (form, key)


def keys_to_weights(contents: dict[str, Any]) -> Iterator[str]:
    """The keys of mappings with weights, outside of an optimizer; or the prefix of flat ones."""
    for key, value in contents.items():
        if key.endswith(FIRST):
            yield key.removesuffix(FIRST)
        elif isinstance(value, dict) and any(name.endswith(FIRST) for name in map(str, value)):
            yield key
        elif isinstance(value, dict) and key not in {"optimizer", "callbacks"}:
            yield from keys_to_weights(value)


def test_the_words_on_an_input_and_their_places_are_those_that_are_read() -> None:
    text = section("Will it answer as in training?")
    for word in (*_WORDS, *NESTED_PLACES, CONFIG_FILE):
        assert f"`{word}`" in text
    assert f"a file named {' or '.join(WEIGHTS_FILES)};" in text
    places = ", ".join(f"`{place}`" for place in PLACES[:-1])
    assert f"{places} and `{PLACES[-1]}`" in text
    assert f"{MINIMUM_INPUT_SIZE} to {MAXIMUM_INPUT_SIZE} pixels" in text
    crops = [CLASSIFIERS[f"overlock_{name}"].geometry.crop_fraction for name in ("xt", *"tsb")]
    assert "{}, {}, {} and {} of XT, T, S and B".format(*crops) in text
    assert "| 224 |" in text
    assert {CLASSIFIERS[name].geometry.crop_size for name in CLASSIFIERS} == {224}
    assert {each.geometry.short_side for each in DETECTORS.values()} == {800}
    assert SEGMENTERS["upernet_overlock_t"].geometry.short_side == 512


def test_the_file_that_the_page_writes_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = create_model("demo", weights="random", num_classes=2, fused=False)
    blocks = re.findall(r"```python\n(.*?)```", WEIGHTS, re.DOTALL)
    (code,) = (block for block in blocks if "save_file" in block)
    monkeypatch.chdir(tmp_path)
    exec(code, {"network": network})
    loaded = load_model("demo", weights="birds.safetensors")
    assert loaded.labels == ("wren", "rook")
    assert loaded.input.geometry == ClassificationGeometry(384, 1.0)


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
    files = [link.partition("#")[0] for link in links]
    assert [path for path in files if not (DOCS / path).exists()] == []
    assert [path for path in paths if not (DOCS.parent / path).exists()] == []

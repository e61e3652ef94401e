"""A hub's config.json counts where the layout is a hub's, and never stops a start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from model.checkpoints.checkpoint import CheckpointError, read_checkpoint
from model.checkpoints.class_table import ClassTable
from model.checkpoints.hub_config import hub_config
from model.images.input_config import InputOptions
from model.zoo import create_model

CONFIG: dict[str, Any] = {
    "architecture": "overlock_t",
    "num_classes": 2,
    "label_names": ["n01", "rook"],
    "label_descriptions": {"n01": "wren, a small bird"},
    "pretrained_cfg": {
        "input_size": [3, 384, 384],
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
    },
}
STATED = InputOptions(384, 1.0, "bilinear", (0.5,) * 3, (0.25,) * 3)
STATE = {"patch_embed1.0.weight": torch.zeros(8, 3, 3, 3)}


def hub(folder: Path, name: str = "model.safetensors", config: str | None = None) -> Path:
    if name.endswith(".safetensors"):
        save_file(STATE, folder / name, metadata={"format": "pt"})
    else:
        torch.save(STATE, folder / name)
    text = json.dumps(CONFIG) if config is None else config
    (folder / "config.json").write_text(text, encoding="utf-8")
    return folder / name


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "birds.pth"])
def test_a_folders_configuration_is_that_of_its_weights(tmp_path: Path, name: str) -> None:
    hub(tmp_path, name)
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint.input == STATED
    assert checkpoint.classes == ClassTable(("wren, a small bird", "rook"))


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_it_is_read_beside_a_file_that_is_named_as_hubs_do(tmp_path: Path, name: str) -> None:
    assert read_checkpoint(hub(tmp_path, name)).input == STATED


@pytest.mark.parametrize("name", ["birds.pth", "birds.safetensors"])
def test_beside_another_file_it_may_be_of_another_run(tmp_path: Path, name: str) -> None:
    checkpoint = read_checkpoint(hub(tmp_path, name))
    assert (checkpoint.input, checkpoint.classes) == (InputOptions(), ClassTable())


def test_the_files_own_word_comes_first(tmp_path: Path) -> None:
    path = hub(tmp_path)
    metadata = {"img_size": "256", "labels": json.dumps(["a", "b"])}
    save_file(STATE, path, metadata=metadata)
    checkpoint = read_checkpoint(path)
    assert checkpoint.input == InputOptions(256, 1.0, "bilinear", (0.5,) * 3, (0.25,) * 3)
    assert checkpoint.classes == ClassTable(("a", "b"))


@pytest.mark.parametrize("config", ["", "{", "[" * 100_000, "\x00"])
def test_a_configuration_that_is_no_json_is_ignored_with_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, config: str
) -> None:
    assert read_checkpoint(hub(tmp_path, config=config)).input == InputOptions()
    (line,) = caplog.messages
    assert line.startswith(f"{tmp_path / 'config.json'} is ignored: ")


@pytest.mark.parametrize("config", ["[1]", "3", "null", "{}", '{"pretrained_cfg": 3}'])
def test_a_configuration_that_states_nothing_is_silent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, config: str
) -> None:
    assert read_checkpoint(hub(tmp_path, config=config)).input == InputOptions()
    assert caplog.messages == []


def test_nonsense_in_it_is_ignored_with_a_line_that_names_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = CONFIG["pretrained_cfg"] | {"crop_pct": 3}
    checkpoint = read_checkpoint(hub(tmp_path, config=json.dumps({"pretrained_cfg": config})))
    assert checkpoint.input == InputOptions(384, None, "bilinear", (0.5,) * 3, (0.25,) * 3)
    (line,) = caplog.messages
    assert line.startswith(f"{tmp_path / 'config.json'} states crop_pct = 3, which is ignored")


def test_names_may_be_numbered(tmp_path: Path) -> None:
    names = {"1": "rook", "0": "wren"}
    path = hub(tmp_path, config=json.dumps({"label_names": names}))
    assert read_checkpoint(path).classes == ClassTable(("wren", "rook"))


@pytest.mark.parametrize("names", ["wren", 3, [1, 2], {"0": "wren", "7": "rook"}, [["wren"]]])
def test_names_that_are_none_are_ignored_with_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, names: Any
) -> None:
    path = hub(tmp_path, config=json.dumps({"label_names": names}))
    assert read_checkpoint(path).classes == ClassTable()
    (line,) = caplog.messages
    assert line.startswith(f"{tmp_path / 'config.json'} states label_names, which are ignored")


def test_names_of_other_classes_than_the_weights_are_refused(tmp_path: Path) -> None:
    network = create_model("demo", weights="random", num_classes=3, fused=False)
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"3 classes, but 2 .* in a config\.json beside it"):
        create_model("demo", weights=tmp_path)


def test_without_a_configuration_there_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    assert hub_config(path, path) == {}
    (tmp_path / "config.json").mkdir()
    assert hub_config(path, path) == {}

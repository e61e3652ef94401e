"""What training scripts store of the input is read in every form; nonsense is logged and left."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from model.checkpoints.checkpoint import read_checkpoint
from model.checkpoints.stand_ins import Inert
from model.checkpoints.stated_input import either, stated_input
from model.images.input_config import InputOptions
from support.checkpoints import foreign_class, omegaconf

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
STATED = InputOptions(384, 0.9, "bilinear", MEAN, STD)
WORDS: dict[str, Any] = {
    "img_size": 384,
    "crop_pct": 0.9,
    "interpolation": "bilinear",
    "mean": list(MEAN),
    "std": STD,
    "lr": 1e-3,
    "resume": None,
}
TIMM_CFG: dict[str, Any] = {
    **{name: value for name, value in WORDS.items() if name != "img_size"},
    "input_size": [3, 384, 384],
    "num_classes": 5,
}
STATE = {"patch_embed1.0.weight": torch.zeros(8, 3, 3, 3)}


FORMS: dict[str, dict[str, Any]] = {
    "timm's args": {"args": argparse.Namespace(**WORDS)},
    "a SimpleNamespace": {"args": SimpleNamespace(**WORDS)},
    "a dict of args": {"args": WORDS},
    "input_size before img_size": {"args": {**WORDS, "input_size": (3, 384, 384), "img_size": 224}},
    "Lightning's hyper_parameters": {"hyper_parameters": WORDS},
    "hyper_parameters with args": {"hyper_parameters": {"args": argparse.Namespace(**WORDS)}},
    "timm's pretrained_cfg": {"pretrained_cfg": TIMM_CFG},
    "timm's default_cfg": {"default_cfg": TIMM_CFG},
    "a text of JSON": {"config": json.dumps({"pretrained_cfg": TIMM_CFG})},
    "args before hyper_parameters": {"hyper_parameters": {"img_size": 64}, "args": WORDS},
    "words in two places": {
        "args": {"img_size": 384, "crop_pct": 0.9, "interpolation": ""},
        "pretrained_cfg": TIMM_CFG | {"crop_pct": 0.5},
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_the_words_are_read_in_every_form(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, form: str
) -> None:
    torch.save({"state_dict": STATE, **FORMS[form]}, tmp_path / "w.pth")
    assert read_checkpoint(tmp_path / "w.pth").input == STATED
    assert caplog.messages == []


@pytest.mark.parametrize(
    "name",
    [
        "yacs.config.CfgNode",
        "easydict.EasyDict",
        "pytorch_lightning.utilities.parsing.AttributeDict",
        "mmengine.config.config.ConfigDict",
    ],
)
def test_the_words_are_read_from_dictionaries_of_other_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    made = foreign_class(monkeypatch, name, dict)(WORDS)
    made.frozen = True
    torch.save({"state_dict": STATE, "hyper_parameters": made}, tmp_path / "w.pth")
    assert read_checkpoint(tmp_path / "w.pth").input == STATED


def test_the_words_are_read_from_omegaconf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = omegaconf(monkeypatch, {"data": {**WORDS, "std": list(STD)}})
    torch.save({"state_dict": STATE, "config": made}, tmp_path / "w.pth")
    assert read_checkpoint(tmp_path / "w.pth").input == STATED


def test_the_words_are_read_from_yacs_in_capitals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = foreign_class(monkeypatch, "yacs.config.CfgNode", dict)
    made = node(DATA=node(IMG_SIZE=384, INTERPOLATION="BICUBIC"), MODEL=node(MEAN=3))
    torch.save({"model": STATE, "config": made}, tmp_path / "w.pth")
    assert read_checkpoint(tmp_path / "w.pth").input == InputOptions(384, None, "bicubic")


@pytest.mark.parametrize(
    "metadata",
    [
        {name: json.dumps(value) for name, value in WORDS.items()},
        {"format": "pt", **{name: str(value) for name, value in WORDS.items()}},
        {"input_size": "3, 384, 384", "crop_pct": " 0.9 ", "interpolation": "bilinear"}
        | {"mean": "0.5 0.4 0.3", "std": "0.2,0.25, 0.3"},
        {"pretrained_cfg": json.dumps(TIMM_CFG)},
        {"args": json.dumps(WORDS)},
    ],
    ids=["JSON", "Python's texts", "plain texts", "a configuration", "args"],
)
def test_the_words_are_read_from_metadata(tmp_path: Path, metadata: dict[str, str]) -> None:
    save_file(STATE, tmp_path / "w.safetensors", metadata=metadata)
    assert read_checkpoint(tmp_path / "w.safetensors").input == STATED


@pytest.mark.parametrize(
    ("value", "size"), [(384, 384), ([384], 384), ((384, 384), 384), ([1, 64, 64], 64), ("64", 64)]
)
def test_a_size_is_a_side_or_two_or_channels_and_two(value: Any, size: int) -> None:
    assert stated({"img_size": value}) == InputOptions(input_size=size)


@pytest.mark.parametrize("value", [None, "", "random", "Random"])
def test_no_interpolation_is_the_default_and_no_nonsense(
    caplog: pytest.LogCaptureFixture, value: Any
) -> None:
    assert stated({"interpolation": value}) == InputOptions()
    assert caplog.messages == []


@pytest.mark.parametrize(("channels", "want"), [(3, (0.5, 0.5, 0.5)), (1, (0.5,)), (None, (0.5,))])
def test_a_list_of_one_mean_is_that_of_every_channel(channels: int | None, want: Any) -> None:
    assert stated({"mean": [0.5], "std": None}, channels).mean == want


def test_three_means_of_a_grey_network_count_on_average() -> None:
    words = {"mean": [0.5, 0.25, 0.75], "std": (0.1, 0.2, 0.3)}
    assert stated(words, 1) == InputOptions(mean=(0.5,), std=(0.2,))


def test_a_plain_number_is_the_mean_of_a_grey_network_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    words = {"mean": 0.5, "std": 0.02}
    assert stated(words, 1) == InputOptions(mean=(0.5,), std=(0.02,))
    assert caplog.messages == []
    assert stated(words) == InputOptions()
    assert len(caplog.messages) == 2


def test_the_deviation_of_something_else_is_not_taken(caplog: pytest.LogCaptureFixture) -> None:
    assert stated({"std": [0.02]}) == InputOptions()
    (line,) = caplog.messages
    assert line.endswith(
        "states std = [0.02], which is ignored: mean and std count where both are stated."
    )


@pytest.mark.parametrize(
    ("word", "value", "reason"),
    [
        ("crop_pct", 3, r"= 3, which is ignored: crop_pct is 3\.0; it is from 0\.1 to 1"),
        ("crop_pct", float("nan"), "from 0.1 to 1"),
        ("crop_pct", True, "= True, which is ignored: it is not a number"),
        ("crop_pct", "most", "= 'most', which is ignored: it is not a number"),
        ("crop_pct", [0.9], "it is not a number"),
        ("img_size", 8, "= 8, which is ignored: input_size is 8; it is from 32 to 4096"),
        ("img_size", 384.0, "it is no size in pixels"),
        pytest.param(
            "img_size", 1 << 20_000, "= a huge number, which is ignored: it is no size", id="huge"
        ),
        ("img_size", True, "it is no size in pixels"),
        ("img_size", [], "it is no size in pixels"),
        ("img_size", "${data.size}", "it is no size in pixels"),
        ("img_size", (384, 224), r"= \[384, 224\], which is ignored: a classifier's .* is square"),
        ("input_size", (3, 384, 224), "a classifier's input is square"),
        ("interpolation", "lanczos", "= 'lanczos', which is ignored: it is bicubic or bilinear"),
        ("interpolation", 3, "it is bicubic or bilinear"),
        (
            "mean",
            [0.5] * 4,
            r"= \[0\.5, 0\.5, 0\.5, 0\.5\], .*: the network's input has 3 channels",
        ),
        ("mean", [123.675, 116.28, 103.53], "its values are from 0 to 1"),
        ("mean", ["a", "b", "c"], "it is not a number"),
        ("mean", [1 << 20_000] * 3, r"= \[a huge number, a huge number, .*: it is not a number"),
        ("std", [0.2, 0.2, 0.0], "its values are from 0.001 to 1"),
        ("std", [0.2, 0.2, float("inf")], "its values are from 0.001 to 1"),
        ("std", Inert("os.\nsystem"), r"= 'os\.\\nsystem', which is ignored"),
        ("std", [Inert("torch.Tensor")] * 3, r"= \['torch\.Tensor', "),
    ],
)
def test_nonsense_is_ignored_with_one_line(
    caplog: pytest.LogCaptureFixture, word: str, value: Any, reason: str
) -> None:
    stated_beside = {"crop_pct": 0.5} if word != "crop_pct" else {"interpolation": "bicubic"}
    beside = {"mean": None, "std": None} | stated_beside
    assert stated(beside | {word: value}) == InputOptions(**stated_beside)
    (line,) = caplog.messages
    assert line.startswith(f"weights.pth states {word} = ")
    assert line.isprintable()
    assert len(line) < 300
    assert re.search(reason, line), line


def test_nonsense_gives_way_to_the_next_place(caplog: pytest.LogCaptureFixture) -> None:
    contents = {"args": {"crop_pct": 3}, "pretrained_cfg": {"crop_pct": 0.95}}
    assert stated_input(contents, 3, Path("w.pth")) == InputOptions(crop_pct=0.95)
    assert len(caplog.messages) == 1


def test_numpys_values_are_no_plain_ones(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    args = argparse.Namespace(img_size=np.int64(384), mean=np.array(MEAN), crop_pct=0.9)
    torch.save({"state_dict": STATE, "args": args}, tmp_path / "w.pth")
    assert read_checkpoint(tmp_path / "w.pth").input == InputOptions(crop_pct=0.9)
    assert len(caplog.messages) == 2


@pytest.mark.parametrize(
    "contents",
    [None, 3, [], "text", {}, {"args": 3}, {"args": "{"}, {"mean": [0.5] * 3}, {"epoch": WORDS}],
)
def test_contents_without_the_words_state_nothing(contents: Any) -> None:
    assert stated_input(contents, 3, Path("w.pth")) == InputOptions()


def test_contents_that_hold_themselves_are_read() -> None:
    loop: dict[str, Any] = dict(WORDS)
    loop |= dict.fromkeys(("args", "config", "data"), loop)
    loop["mean"] = [0.5]
    loop["mean"].append(loop["mean"])
    assert stated_input(loop, 3, Path("w.pth")).input_size == 384


def test_nested_texts_are_read_within_bounds() -> None:
    assert stated({"config": "[" * 100_000, "img_size": 384}) == InputOptions(input_size=384)


def test_the_first_options_win_value_by_value() -> None:
    first, second = InputOptions(crop_pct=0.5, mean=MEAN), InputOptions(384, 0.9)
    assert either(first, second) == InputOptions(384, 0.5, None, MEAN)
    assert either(InputOptions(), second) == second


def stated(words: dict[str, Any], channels: int | None = 3) -> InputOptions:
    return stated_input({"args": words}, channels, Path("weights.pth"))

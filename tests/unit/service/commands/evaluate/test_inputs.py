"""What is measured: the weights and the input that the checkpoint or an option states."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from model.config import IMAGE_MEAN, IMAGE_STD
from model.zoo import create_model

DEMO = ("classify", "--model", "demo", "--weights", "demo", "--device", "cpu")
Evaluate = Callable[..., int]

pytestmark = pytest.mark.slow


def read(path: Path) -> dict[str, Any]:
    contents: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return contents


@pytest.fixture
def run_of_timm(tmp_path: Path) -> Path:
    """The demo's weights as timm saves them, with an average that answers the last class alone."""
    raw = create_model("demo", weights="demo", fused=False).state_dict()
    bias = raw["head.classify.bias"]
    ema = raw | {"head.classify.bias": bias + 1e6 * torch.eye(len(bias))[-1]}
    args = argparse.Namespace(img_size=96, crop_pct=0.9, interpolation="bilinear", mean=None)
    contents = {"state_dict": raw, "state_dict_ema": ema, "args": args}
    torch.save(contents, tmp_path / "last.pth.tar")
    return tmp_path / "last.pth.tar"


def test_a_checkpoint_is_measured_with_its_own_input_and_its_average(
    evaluated: Evaluate, tmp_path: Path, run_of_timm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "r.json"
    options = ("--weights", run_of_timm, "--limit", "20", "--output", output)
    assert evaluated(*DEMO, "--data", "demo", *options) == 0
    report = read(output)
    assert report["weights_kind"] == "ema"
    assert report["metrics"]["top1"] < 50
    assert report["input"] == {
        "input_size": 96,
        "crop_pct": 0.9,
        "interpolation": "bilinear",
        "mean": list(IMAGE_MEAN),
        "std": list(IMAGE_STD),
    }
    assert report["input_from"] == {
        "input_size": "checkpoint",
        "crop_pct": "checkpoint",
        "interpolation": "checkpoint",
        "mean": "architecture",
        "std": "architecture",
    }
    text = capsys.readouterr().out
    assert "(last.pth.tar weights, EMA, SHA-256 " in text
    assert "input_size 96 (checkpoint), crop_pct 0.9 (checkpoint), interpolation bilinear" in text


def test_options_come_before_the_checkpoints_word(
    evaluated: Evaluate, tmp_path: Path, run_of_timm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "r.json"
    options = ("--weights", run_of_timm, "--limit", "20", "--output", output, "--raw")
    stated = ("--input-size", "224", "--crop-pct", "1.0", "--interpolation", "bicubic")
    assert evaluated(*DEMO, "--data", "demo", *options, *stated) == 0
    report = read(output)
    assert report["weights_kind"] == "raw"
    assert report["metrics"]["top1"] > 90
    assert {name for name, source in report["input_from"].items() if source == "option"} == {
        *("input_size", "crop_pct", "interpolation")
    }
    assert "(last.pth.tar weights, raw, SHA-256 " in capsys.readouterr().out


def test_a_mean_of_ones_own_changes_what_is_measured(evaluated: Evaluate, tmp_path: Path) -> None:
    usual, other = tmp_path / "usual.json", tmp_path / "other.json"
    words = (*DEMO, "--data", "demo", "--limit", "20")
    statistics = ("--mean", "0.9", "0.1", "0.5", "--std", "0.02", "0.9", "0.5")
    assert evaluated(*words, "--output", usual) == 0
    assert evaluated(*words, *statistics, "--output", other) == 0
    assert read(other)["input"]["mean"] == [0.9, 0.1, 0.5]
    assert read(other)["counts"] != read(usual)["counts"]
    assert evaluated("merge", usual, other) == 2


def test_a_segmenter_of_one_class_is_measured_with_its_background(
    evaluated: Evaluate, tmp_path: Path
) -> None:
    network = create_model("demo", task="segment", weights="random", num_classes=1, fused=False)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    for folder, pixels in (("images", (8, 8, 3)), ("annotations", (8, 8))):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.ones(pixels, np.uint8)).save(tmp_path / folder / "a.png")
    (tmp_path / "images" / "a.png").rename(tmp_path / "images" / "a.jpg")
    segment = ("segment", "--model", "demo", "--weights", tmp_path / "w.pth", "--data", tmp_path)
    output = tmp_path / "r.json"
    assert evaluated(*segment, "--keep-zero-label", "--output", output) == 0
    assert read(output)["classes"] == 2
    assert sum(read(output)["counts"]["label"]) == 64
    assert read(output)["input_from"]["short_side"] == "architecture"


MODELS = """\
[shapes]
weights = "last.pth.tar"
ema = false
crop_pct = 0.8
{more}
[shapes.backbone]
small_kernel = 5
"""


def test_a_models_file_states_what_is_measured_and_an_option_wins(
    evaluated: Evaluate, tmp_path: Path, run_of_timm: Path
) -> None:
    models, output = tmp_path / "models.toml", tmp_path / "r.json"
    models.write_text(MODELS.format(more=""))
    words = ("classify", "--models-file", models, "--device", "cpu", "--data", "demo")
    assert evaluated(*words, "--limit", "20", "--input-size", "192", "--output", output) == 0
    report = read(output)
    assert (report["model"], report["weights_kind"]) == ("shapes", "raw")
    assert report["metrics"]["top1"] > 50
    assert (report["input"]["input_size"], report["input"]["crop_pct"]) == (192, 0.8)
    sources = [report["input_from"][name] for name in ("input_size", "crop_pct", "interpolation")]
    assert sources == ["option", "file", "checkpoint"]
    assert report["published"] is None


@pytest.mark.parametrize(
    ("more", "words", "message"),
    [
        ("", ("--model", "birds"), "has no model birds that can classify; it has shapes"),
        ("", ("--weights", "demo"), "--models-file states the models, and their weights too"),
        ('activation = "sigmoid"', (), "activation is sigmoid, for several labels an image"),
        ('labels = "two.txt"', (), "two.txt has 2 lines; the network has 10 classes"),
        (f'sha256 = "{"ab" * 32}"', (), "[shapes] sha256 is abab"),
    ],
)
def test_what_a_models_file_cannot_be_measured_by_is_refused(
    evaluated: Evaluate,
    tmp_path: Path,
    run_of_timm: Path,
    capsys: pytest.CaptureFixture[str],
    more: str,
    words: tuple[str, ...],
    message: str,
) -> None:
    models = tmp_path / "models.toml"
    models.write_text(MODELS.format(more=more))
    (tmp_path / "two.txt").write_text("one\ntwo\n")
    assert evaluated("classify", "--models-file", models, "--data", "demo", *words) == 2
    assert message in capsys.readouterr().err


def test_a_model_and_its_weights_are_needed(
    evaluated: Evaluate, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluated("classify", "--model", "demo", "--data", "demo") == 2
    assert "Give --model and --weights, or --models-file." in capsys.readouterr().err

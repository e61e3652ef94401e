from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from model.config import IMAGE_MEAN, IMAGE_STD, Task
from model.config import ClassificationGeometry as Crop
from model.config import ScaledGeometry as Scale
from model.images.input_config import InputOptionError, InputOptions, input_config
from service.engine.descriptions import (
    activation_of,
    blaming,
    check_digest,
    input_of,
    labels_of,
)
from service.link.messages import InputInfo
from service.settings import ModelSpec


@pytest.mark.parametrize(
    ("stated", "classes", "activation"),
    [
        (None, 5, "softmax"),
        (None, 1, "sigmoid"),
        ("sigmoid", 5, "sigmoid"),
        ("sigmoid", 1, "sigmoid"),
        ("softmax", 2, "softmax"),
    ],
)
def test_one_output_is_a_sigmoid_and_several_are_a_softmax(
    stated: Any, classes: int, activation: str
) -> None:
    assert activation_of(stated, classes) == activation


def test_the_softmax_of_one_output_is_refused() -> None:
    with pytest.raises(ValueError, match="is 1 for every image; give sigmoid"):
        activation_of("softmax", 1)


def loaded(labels: tuple[str, ...], outputs: int) -> Any:
    network = SimpleNamespace(num_classes=outputs)
    return SimpleNamespace(
        name="x", labels=labels, network=network, weights="w.pth", source=None, digest="ab" * 32
    )


@pytest.mark.parametrize(
    ("lines", "labels"),
    [("water\n", ("background", "water")), ("land\nwater\n", ("land", "water"))],
)
def test_the_class_of_one_output_is_named_with_or_without_the_background(
    tmp_path: Path, lines: str, labels: tuple[str, ...]
) -> None:
    (tmp_path / "labels.txt").write_text(lines)
    model = loaded(("background", "class 1"), 1)
    assert labels_of(model, Task.SEGMENT, None) == ("background", "class 1")
    assert labels_of(model, Task.SEGMENT, tmp_path / "labels.txt") == labels


def test_a_single_name_does_not_fit_two_outputs(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("water\n")
    with pytest.raises(ValueError, match="has 1 lines; the network has 2 classes"):
        labels_of(loaded(("a", "b"), 2), Task.SEGMENT, tmp_path / "labels.txt")


def test_weights_of_another_digest_are_refused() -> None:
    blames = {"sha256": "m.toml, [a] sha256"}
    spec = ModelSpec("a", Task.CLASSIFY, "x", "w.pth", sha256="cd" * 32, blames=blames)
    with pytest.raises(ValueError, match=r"w.pth is abab.*, but m.toml, \[a\] sha256 is cdcd"):
        check_digest(spec, loaded((), 5))
    fetched = loaded((), 5)
    fetched.source = "s3://b/w.pth#etag=1"
    with pytest.raises(ValueError, match=r"the SHA-256 of s3://b/w\.pth#etag=1 is abab"):
        check_digest(spec, fetched)
    check_digest(ModelSpec("a", Task.CLASSIFY, "x", "w.pth", sha256="ab" * 32), loaded((), 5))
    check_digest(ModelSpec("a", Task.CLASSIFY, "x", "w.pth"), loaded((), 5))


def test_an_input_crosses_with_the_sources_of_its_values() -> None:
    config = input_config(Crop(224, 0.95), file=InputOptions(input_size=96))
    assert input_of(config, Task.CLASSIFY, square=False) == InputInfo(
        height=96,
        width=96,
        crop_pct=0.95,
        interpolation="bicubic",
        mean=IMAGE_MEAN,
        std=IMAGE_STD,
        sources={
            "input_size": "file",
            **dict.fromkeys(("crop_pct", "interpolation", "mean", "std"), "architecture"),
        },
    )


def test_a_grey_segmenters_square_input_is_fixed() -> None:
    info = input_of(input_config(Scale(512, 2048), channels=1), Task.SEGMENT, square=True)
    assert len(info.mean) == len(info.std) == 1
    assert (info.height, info.width, info.short_side, info.crop_pct) == (512, 512, None, None)


BIRDS = ModelSpec(
    "birds",
    Task.CLASSIFY,
    "overlock_t",
    "birds.pth",
    blames={"weights": "m.toml, [birds] weights", "mean": "m.toml, [birds] mean"},
)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("birds.pth is empty."), r"\[birds\] weights: birds\.pth is empty\."),
        (InputOptionError("mean", "states 2 channels"), r"\[birds\] mean: mean states 2 channels"),
    ],
)
def test_the_value_that_is_wrong_is_blamed(error: ValueError, message: str) -> None:
    refused = pytest.raises(ValueError, match=rf"^m\.toml, {message}")
    with refused, blaming(BIRDS.blame("weights"), BIRDS):
        raise error

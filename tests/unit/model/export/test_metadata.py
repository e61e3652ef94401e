"""The metadata says all that a program needs to classify with the file."""

from __future__ import annotations

import json
from dataclasses import replace

from model.config import ScaledGeometry
from model.export.metadata import metadata_of
from model.images.input_config import InputConfig, InputOptions
from model.zoo import LoadedModel, load_model


def demo() -> LoadedModel:
    options = InputOptions(input_size=192, crop_pct=0.96, interpolation="bilinear")
    return load_model("demo", weights="demo", input_options=options)


def test_a_classifiers_images_are_resized_and_cropped() -> None:
    loaded = demo()
    metadata = metadata_of("shapes", loaded, "softmax", (192, 192))
    assert json.loads(metadata["preprocessing"]) == {
        "color": "RGB",
        "resize": "short_side",
        "short_side": 200,
        "interpolation": "bilinear",
        "antialias": True,
        "crop": "center",
        "height": 192,
        "width": 192,
        "divide_by": 255,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "layout": "NCHW",
        "dtype": "float32",
    }
    assert tuple(json.loads(metadata["labels"])) == loaded.labels
    assert metadata["weights_sha256"] == loaded.digest
    assert {
        name: metadata[name] for name in ("model", "architecture", "task", "weights", "activation")
    } == {
        "model": "shapes",
        "architecture": "demo",
        "task": "classify",
        "weights": "demo",
        "activation": "softmax",
    }


def test_a_segmenters_images_are_stretched() -> None:
    loaded = replace(demo(), input=InputConfig(ScaledGeometry(512, 2048), (0.5,), (0.25,)))
    metadata = metadata_of("shapes", loaded, "argmax", (512, 704))
    steps = json.loads(metadata["preprocessing"])
    assert (steps["resize"], steps["height"], steps["width"]) == ("stretch", 512, 704)
    assert (steps["color"], steps["mean"], steps["std"]) == ("grey", [0.5], [0.25])


def test_no_folder_of_the_machine_is_told_and_no_label_is_escaped() -> None:
    loaded = replace(demo(), weights="/home/somebody/birds.pth", digest=None, labels=("Käfer",))
    metadata = metadata_of("shapes", loaded, "softmax", (192, 192))
    assert (metadata["weights"], metadata["weights_sha256"]) == ("birds.pth", "none")
    assert metadata["labels"] == '["Käfer"]'

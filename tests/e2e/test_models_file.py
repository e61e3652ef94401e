"""One's own checkpoints, stated in a models file, are answered as by their training code."""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from model.config import IMAGE_MEAN, IMAGE_STD, SEGMENTERS
from model.images.preprocess import segmentation_input
from model.scenes.scenes import draw_scene
from model.zoo import create_model
from support.running_service import RunningService

SIDE, CROP = 160, 0.9
MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.25, 0.2)

MODELS = """\
[birds]
architecture = "demo"
weights = "run/last.pth"
labels = "birds.txt"
ema = {ema}

[water]
architecture = "demo"
task = "segment"
weights = "water.pth"
labels = "water.txt"
"""

LABELS = ("wren", "rook", "kite", "coot", "ibis")


def own_network(seed: int, task: str, classes: int) -> nn.Module:
    """Return a small network in its trained form, as a run of one's own leaves it."""
    torch.manual_seed(seed)
    network = create_model("demo", weights="random", task=task, num_classes=classes, fused=False)
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif tensor.is_floating_point():
            tensor.add_(0.05 * torch.randn_like(tensor))
    return network


@pytest.fixture(scope="module")
def networks() -> dict[str, nn.Module]:
    water = own_network(3, "segment", 1)
    with torch.no_grad():  # half of the picture is water
        water.get_parameter("head.classify.bias").sub_(water_logits(water, picture()).median())
    return {
        "raw": own_network(1, "classify", 5),
        "ema": own_network(2, "classify", 5),
        "water": water,
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, networks: dict[str, nn.Module]) -> Path:
    """A run of timm's script at another size, and a segmenter with one output."""
    place = tmp_path_factory.mktemp("own")
    (place / "run").mkdir()
    options = argparse.Namespace(
        img_size=SIDE, crop_pct=CROP, interpolation="bilinear", mean=MEAN, std=STD, lr=1e-3
    )
    torch.save(
        {
            "epoch": 3,
            "arch": "overlock_nano",
            "state_dict": networks["raw"].state_dict(),
            "state_dict_ema": networks["ema"].state_dict(),
            "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3}]},
            "args": options,
        },
        place / "run" / "last.pth",
    )
    torch.save(networks["water"].state_dict(), place / "water.pth")
    (place / "birds.txt").write_text("\n".join(LABELS))
    (place / "water.txt").write_text("water\n")
    return place


def picture() -> Image.Image:
    return Image.fromarray(draw_scene(5, 200, 260).image)


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def training_codes_logits(network: nn.Module, image: Image.Image) -> Tensor:
    """Return what timm's validation computes: resize, crop, normalise, the network."""
    short_side = int(SIDE / CROP)
    scale = short_side / min(image.size)
    width, height = (int(side * scale) for side in image.size)
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - SIDE) / 2), round((height - SIDE) / 2)
    pixels = np.asarray(resized.crop((left, top, left + SIDE, top + SIDE)), np.float32) / 255
    normalised = (pixels - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    with torch.inference_mode():
        logits: Tensor = network(torch.from_numpy(normalised).permute(2, 0, 1)[None])[0]
    return logits


def water_logits(network: nn.Module, image: Image.Image) -> Tensor:
    """Return a segmenter's logits in the image's own size, as mmsegmentation resizes them."""
    pixels = segmentation_input(image, SEGMENTERS["demo"].geometry)
    normalised = (pixels / np.float32(255) - np.array(IMAGE_MEAN, np.float32)) / np.array(
        IMAGE_STD, np.float32
    )
    with torch.inference_mode():
        logits: Tensor = network(torch.from_numpy(normalised).float().permute(2, 0, 1)[None])
        for size in (pixels.shape[:2], (image.height, image.width)):
            logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    return logits


@pytest.fixture(scope="module", params=["ema", "raw"])
def service(request: pytest.FixtureRequest, folder: Path) -> Iterator[tuple[RunningService, str]]:
    kind: str = request.param
    path = folder / f"{kind}.toml"
    path.write_text(MODELS.format(ema="true" if kind == "ema" else "false"))
    with RunningService(models_file=str(path)) as running:
        yield running, kind


def models_of(service: RunningService) -> dict[str, dict[str, Any]]:
    return {model["name"]: model for model in service.get("/v1/models").json()["models"]}


def test_a_fine_tune_is_classified_as_in_its_training(
    service: tuple[RunningService, str], networks: dict[str, nn.Module]
) -> None:
    running, kind = service
    image = picture()
    answer = httpx.post(
        f"{running.url}/v1/classify?logits=true", content=png(image), timeout=60
    ).json()
    want = training_codes_logits(networks[kind], image)
    got = torch.tensor(answer["logits"])
    assert (got - want).abs().max() <= 1e-4 * want.abs().max()
    assert answer["model"] == "birds"
    best = want.softmax(0).sort(descending=True)
    assert [each["label"] for each in answer["predictions"]] == [
        LABELS[index] for index in best.indices
    ]
    scores = [each["score"] for each in answer["predictions"]]
    np.testing.assert_allclose(scores, best.values, rtol=1e-3)


def test_every_value_is_shown_with_its_source(service: tuple[RunningService, str]) -> None:
    running, kind = service
    birds = models_of(running)["birds"]
    assert (birds["weights_kind"], birds["activation"]) == (kind, "softmax")
    assert birds["input"] == {
        "width": SIDE,
        "height": SIDE,
        "crop_pct": CROP,
        "interpolation": "bilinear",
        "mean": [*MEAN],
        "std": [*STD],
    }
    names = ("input_size", "crop_pct", "interpolation", "mean", "std")
    assert birds["input_from"] == dict.fromkeys(names, "checkpoint")
    assert f"input_size {SIDE} (checkpoint), crop_pct {CROP} (checkpoint)" in running.log


def test_one_output_is_a_class_and_the_background(
    service: tuple[RunningService, str], networks: dict[str, nn.Module]
) -> None:
    running, _ = service
    assert models_of(running)["water"]["classes"] == ["background", "water"]
    answer = httpx.post(f"{running.url}/v1/segment", content=png(picture()), timeout=60).json()
    shares = {each["label"]: each["fraction"] for each in answer["classes"]}
    share = (water_logits(networks["water"], picture()) > 0).double().mean().item()
    assert share == pytest.approx(0.5, abs=0.01)
    assert shares == pytest.approx({"background": 1 - share, "water": share}, abs=0.002)

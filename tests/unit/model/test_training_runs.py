"""Whatever a training saved is loaded, and answers as its own code does."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from model.checkpoints.checkpoint import CheckpointError
from model.config import BACKBONES, CLASSIFIERS, ClassificationGeometry, Interpolation
from model.images.preprocess import classification_input
from model.inference.predictor import Predictor
from model.zoo import create_model, load_model
from support.checkpoints import training_files
from support.filled import filled

pytestmark = pytest.mark.slow

ENTRY = "head.classify.weight"
CLASSES = 5
FORMS = (
    *("state_dict alone", "timm, EMA", "DeiT, EMA", "torchvision's references, EMA", "Composer"),
    *("BasicSR, EMA", "ultralytics, EMA"),
    *("mmengine, EMA", "Lightning, EMA by WeightAveraging", "Lightning, EMA by a callback"),
    *("Lightning, EMA beside", "Lightning", "AveragedModel, EMA", "DistributedDataParallel"),
    *("torch.compile", "DeepSpeed", "PyTorch's tutorial", "a folder's path", "Swin", "Hydra"),
)


def trained() -> dict[str, Tensor]:
    network = create_model("demo", weights="random", num_classes=CLASSES, fused=False)
    return dict(filled(network, torch.float32).state_dict())


def averaged(raw: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights that differ from the raw ones in one entry."""
    return raw | {ENTRY: raw[ENTRY] / 2}


def test_every_form_is_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tuple(training_files(monkeypatch, {}, {})) == FORMS


@pytest.mark.parametrize("form", FORMS)
def test_the_file_of_every_framework_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    raw = trained()
    path = tmp_path / "run.pth"
    torch.save(training_files(monkeypatch, raw, averaged(raw))[form], path)
    for ema in (True, False):
        loaded = load_model("demo", weights=path, ema=ema, fused=False)
        is_averaged = ema and "EMA" in form
        assert loaded.weights_kind == ("ema" if is_averaged else "raw")
        want = averaged(raw) if is_averaged else raw
        got = loaded.network.state_dict()
        assert all(torch.equal(got[name], tensor) for name, tensor in want.items())
        assert len(loaded.labels) == CLASSES


def test_a_file_of_averages_alone_is_never_taken_for_raw(tmp_path: Path) -> None:
    torch.save({"state_dict_ema": trained()}, tmp_path / "run.pth")
    with pytest.raises(CheckpointError, match="holds EMA weights alone"):
        load_model("demo", weights=tmp_path / "run.pth", ema=False)


@pytest.mark.parametrize(
    ("size", "crop_pct", "interpolation"),
    [(384, 1.0, "bicubic"), (160, 0.875, "bilinear")],
)
@pytest.mark.parametrize("ema", [True, False])
def test_a_run_of_timm_answers_as_in_training(
    tmp_path: Path, size: int, crop_pct: float, interpolation: Interpolation, ema: bool
) -> None:
    raw, mean, std = trained(), (0.5, 0.45, 0.4), (0.3, 0.25, 0.2)
    args = argparse.Namespace(
        model="demo",
        img_size=size,
        input_size=None,
        crop_pct=crop_pct,
        interpolation=interpolation,
        train_interpolation="random",
        mean=list(mean),
        std=list(std),
        num_classes=CLASSES,
    )
    contents = {"arch": "demo", "state_dict": raw, "state_dict_ema": averaged(raw), "args": args}
    torch.save(contents, tmp_path / "model_best.pth.tar")

    loaded = load_model("demo", weights=tmp_path / "model_best.pth.tar", ema=ema)
    assert loaded.input.geometry == ClassificationGeometry(size, crop_pct, interpolation)
    assert loaded.input.geometry != CLASSIFIERS["demo"].geometry
    geometry = loaded.input.geometry
    predictor = Predictor(
        loaded.network, torch.device("cpu"), torch.float32, input_config=loaded.input
    )
    for image in (photograph(640, 480), photograph(301, 455)):
        pixels = classification_input(image, geometry, channels=loaded.input.channels)
        (got,) = predictor.classify([pixels], (1, size, size))
        weights = averaged(raw) if ema else raw
        want = in_training(image, weights, size, crop_pct, interpolation, mean, std)
        assert got is not None
        assert np.abs(got - want.numpy()).max() < 1e-4 * want.abs().max()


def test_a_grey_run_of_timm_answers_as_in_training(tmp_path: Path) -> None:
    config = replace(BACKBONES["nano"], in_channels=1)
    network = filled(create_model(config, weights="random", num_classes=3, fused=False))
    args = argparse.Namespace(input_size=[1, 96, 96], crop_pct=1.0, mean=[0.45], std=[0.25])
    torch.save({"state_dict": network.state_dict(), "args": args}, tmp_path / "grey.pth")

    loaded = load_model(config, weights=tmp_path / "grey.pth")
    assert (loaded.input.channels, loaded.input.mean, loaded.input.std) == (1, (0.45,), (0.25,))
    predictor = Predictor(
        loaded.network, torch.device("cpu"), torch.float32, input_config=loaded.input
    )
    image, geometry = photograph(200, 150), loaded.input.geometry
    assert isinstance(geometry, ClassificationGeometry)
    pixels = classification_input(image, geometry, channels=loaded.input.channels)
    (got,) = predictor.classify([pixels], (1, 96, 96))
    grey = image.convert("L").resize((128, 96), Image.Resampling.BICUBIC).crop((16, 0, 112, 96))
    values = (torch.from_numpy(np.array(grey)).double() / 255 - 0.45) / 0.25
    with torch.inference_mode():
        want = network(values[None, None])[0]
    assert got is not None
    assert np.abs(got - want.numpy()).max() < 1e-4 * want.abs().max()


def in_training(
    image: Image.Image,
    weights: dict[str, Tensor],
    size: int,
    crop_pct: float,
    interpolation: str,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Tensor:
    """Predict as timm's validate.py: resize, crop, normalise, and the network as trained."""
    short_side = int(size / crop_pct)
    scale = short_side / min(image.size)
    width, height = (
        (short_side, int(image.height * scale))
        if image.width <= image.height
        else (int(image.width * scale), short_side)
    )
    resized = image.resize((width, height), Image.Resampling[interpolation.upper()])
    left, top = round((width - size) / 2), round((height - size) / 2)
    pixels = torch.from_numpy(np.array(resized.crop((left, top, left + size, top + size))))
    values = (pixels.double() / 255 - torch.tensor(mean)) / torch.tensor(std)
    network = create_model("demo", weights="random", num_classes=CLASSES, fused=False)
    network.load_state_dict(weights)
    with torch.inference_mode():
        logits: Tensor = network.double()(values.permute(2, 0, 1)[None])[0]
    return logits


def photograph(width: int, height: int) -> Image.Image:
    generator = np.random.default_rng(width)
    coarse = generator.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)

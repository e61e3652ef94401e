"""The classifiers give the authors' numbers.

``cls_logits.npz`` and ``e2e_cls.npz`` hold outputs of the authors' public network in
float32 on a CPU, with the weights of ``golden.fill``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from model.checkpoints.checkpoint import renamed
from model.config import CLASSIFIERS
from model.heads.classifier import ImageClassifier
from model.images.preprocess import classification_input
from model.lowering.folding import fold
from model.zoo import create_model
from support.checkpoints import official_shapes, official_state
from support.fill import MEAN, STD
from support.golden_networks import (
    FORMS,
    TOLERANCE,
    NetworkOf,
    assert_relative,
    checkpoint_file,
    images_of,
)
from support.reference_network import Reference
from support.reference_shapes import official_shapes_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDER = Path(__file__).parent
LOGITS = dict(np.load(FOLDER / "cls_logits.npz"))
SMALLEST = "xt-64x96"
PHOTO_RESULTS = dict(np.load(FOLDER / "e2e_cls.npz"))
PHOTO_KEYS = [key for key in PHOTO_RESULTS if not key.startswith("input|")]
SERVED_FORMS = ("folded", "native")
"""Of the largest images and network; the other forms are as much others of the smaller ones."""


@pytest.mark.parametrize(
    ("key", "form"),
    [
        pytest.param(key, form, marks=() if key == SMALLEST else pytest.mark.slow)
        for key in LOGITS
        for form in (SERVED_FORMS if key.endswith("224x224") else FORMS)
    ],
)
def test_logits_are_the_authors(network_of: NetworkOf, key: str, form: str) -> None:
    variant, size = key.split("-")
    images = images_of(key, size)
    if form in {"channels_last", "native"}:
        images = images.contiguous(memory_format=torch.channels_last)
    assert_relative(network_of(variant, form)(images), torch.from_numpy(LOGITS[key]), TOLERANCE)


@pytest.mark.slow
def test_the_reference_of_other_shapes_gives_the_authors_logits() -> None:
    reference = Reference(official_state("overlock_xt"), CLASSIFIERS["overlock_xt"].backbone)
    with torch.inference_mode():
        logits = reference(images_of(SMALLEST, "64x96")[:1]).logits
    assert_relative(logits.float(), torch.from_numpy(LOGITS[SMALLEST][:1]), TOLERANCE)


@pytest.mark.parametrize("name", [name for name in CLASSIFIERS if name != "demo"])
def test_the_reference_has_the_authors_keys(name: str) -> None:
    assert official_shapes_of(CLASSIFIERS[name].backbone, 1000) == official_shapes(name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "dtype", "tolerance"),
    [
        ("xt", torch.float64, 1e-12),
        ("t", torch.float64, 1e-12),
        ("s", torch.float32, 1e-5),
        ("b", torch.float32, 1e-5),
    ],
)
def test_merged_checkpoint_loads_and_folds_exactly(
    tmp_path_factory: pytest.TempPathFactory, variant: str, dtype: torch.dtype, tolerance: float
) -> None:
    name = f"overlock_{variant}"
    with checkpoint_file(tmp_path_factory, f"{name}_reparam") as path:
        network = create_model(name, weights=path, fused=False).to(dtype)
    images = images_of(f"merged-{variant}", "64x96")[:1].to(dtype)
    want = network(images)
    assert_relative(fold(network)(images), want, tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["", "_reparam"])
@pytest.mark.parametrize("name", [name for name in CLASSIFIERS if name != "demo"])
def test_official_keys_are_exactly_the_networks(name: str, form: str) -> None:
    with torch.device("meta"):
        official = {
            key: torch.empty(shape) for key, shape in official_shapes(f"{name}{form}").items()
        }
        network = ImageClassifier(
            CLASSIFIERS[name].backbone, 1000, merged=form == "_reparam", overview_head=True
        )
    ours = {key: tensor.shape for key, tensor in network.state_dict().items()}
    assert {key: tensor.shape for key, tensor in renamed(official).items()} == ours


@pytest.mark.parametrize("key", PHOTO_KEYS)
def test_photo_becomes_the_authors_input(photos_dir: Path, key: str) -> None:
    variant, photo = key.split("|")
    pixels = _photo_input(photos_dir / photo, variant)
    facts = [pixels.sum(dtype=np.float64), np.abs(pixels).sum(dtype=np.float64), pixels[1, 100, 50]]
    # Rounding one grey level the other way would move a sum by 0.017.
    np.testing.assert_allclose(facts, PHOTO_RESULTS[f"input|{key}|sha"], rtol=0, atol=1e-3)


@pytest.mark.parametrize("key", PHOTO_KEYS)
def test_photo_gets_the_authors_logits(photos_dir: Path, network_of: NetworkOf, key: str) -> None:
    variant, photo = key.split("|")
    images = torch.from_numpy(_photo_input(photos_dir / photo, variant))[None]
    want = torch.from_numpy(PHOTO_RESULTS[key])
    assert_relative(network_of(variant, "folded")(images)[0], want, TOLERANCE)


def _photo_input(path: Path, variant: str) -> NDArray[np.float32]:
    """Decode, resize, crop and normalise, (3, 224, 224)."""
    with Image.open(path) as photo:
        crop = classification_input(
            photo.convert("RGB"), CLASSIFIERS[f"overlock_{variant}"].geometry
        )
    normalised = (crop.astype(np.float32) / 255 - MEAN) / STD
    return np.ascontiguousarray(normalised.transpose(2, 0, 1))  # (H, W, 3) -> (3, H, W)

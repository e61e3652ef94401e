"""The classifiers give the authors' numbers.

``cls_logits.npz``, ``maps.npz`` and ``e2e_cls.npz`` hold outputs of the authors' public network in
float32 on a CPU, with the weights of ``golden.fill``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from model.checkpoints.checkpoint import renamed
from model.config import CLASSIFIERS
from model.heads.classifier import ImageClassifier
from model.images.preprocess import classification_input
from model.lowering.cpu import lower_for_cpu
from model.lowering.folding import fold, merge_branches
from model.zoo import create_model
from support.checkpoints import official_shapes, official_state
from support.fill import MEAN, STD, image, model_input
from support.reference_network import Reference
from support.reference_shapes import official_shapes_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDER = Path(__file__).parent
LOGITS = dict(np.load(FOLDER / "cls_logits.npz"))
MAPS = dict(np.load(FOLDER / "maps.npz"))
SMALLEST = "xt-64x96"
PHOTO_RESULTS = dict(np.load(FOLDER / "e2e_cls.npz"))
PHOTO_KEYS = [key for key in PHOTO_RESULTS if not key.startswith("input|")]
TOLERANCE = 1e-4  # of the largest logit: float32, summed in another order than the authors'

NetworkOf = Callable[[str, str], ImageClassifier]


@pytest.fixture(scope="session")
def network_of(tmp_path_factory: pytest.TempPathFactory) -> NetworkOf:
    """Return the network of a variant in one of the forms of ``FORMS``, loaded from a file."""

    @cache
    def loaded(variant: str, form: str) -> ImageClassifier:
        if form in ("trained", "folded"):
            name = f"overlock_{variant}"
            with _checkpoint_file(tmp_path_factory, name) as path:
                network = create_model(name, weights=path, fused=form == "folded")
            assert isinstance(network, ImageClassifier)
            return network
        if form == "merged":
            return merge_branches(copy.deepcopy(loaded(variant, "trained")))
        network = copy.deepcopy(loaded(variant, "folded"))
        if form == "native":
            return lower_for_cpu(network, torch.float32)
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    return loaded


@contextmanager
def _checkpoint_file(tmp_path_factory: pytest.TempPathFactory, key_table: str) -> Iterator[Path]:
    """Write an official checkpoint, and delete it: pytest would keep gigabytes."""
    path = tmp_path_factory.mktemp("checkpoints") / f"{key_table}.pth"
    torch.save(official_state(key_table), path)
    yield path
    path.unlink()


FORMS = ("trained", "merged", "folded", "channels_last", "native")
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
    images = _images(key, size)
    if form in {"channels_last", "native"}:
        images = images.contiguous(memory_format=torch.channels_last)
    _assert_relative(network_of(variant, form)(images), torch.from_numpy(LOGITS[key]), TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_the_means_of_the_dense_maps_are_the_authors(network_of: NetworkOf, form: str) -> None:
    size = "128x160"
    with torch.inference_mode():
        maps = network_of("xt", form).backbone.dense_features(_images(f"maps-xt-{size}", size))
    for name, features in zip(("stage1", "stage2", "focus3", "focus4"), maps, strict=True):
        want = torch.from_numpy(MAPS[f"xt-{size}|{name}"])
        _assert_relative(features.mean(dim=(2, 3)), want, TOLERANCE)


@pytest.mark.slow
def test_the_reference_of_other_shapes_gives_the_authors_logits() -> None:
    reference = Reference(official_state("overlock_xt"), CLASSIFIERS["overlock_xt"].backbone)
    with torch.inference_mode():
        logits = reference(_images(SMALLEST, "64x96")[:1]).logits
    _assert_relative(logits.float(), torch.from_numpy(LOGITS[SMALLEST][:1]), TOLERANCE)


@pytest.mark.parametrize("name", [name for name in CLASSIFIERS if name != "demo"])
def test_the_reference_has_the_authors_keys(name: str) -> None:
    assert official_shapes_of(CLASSIFIERS[name].backbone, 1000) == official_shapes(name)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", ["128x160", "96x96"])
def test_the_overview_heads_logits_are_the_authors(
    network_of: NetworkOf, size: str, form: str
) -> None:
    network = network_of("xt", form)
    assert network.overview_head is not None
    images = _images(f"maps-xt-{size}", size)
    with torch.inference_mode():
        overview, _ = network.backbone.last_maps(images)
        logits = network.overview_head(overview)
    _assert_relative(logits, torch.from_numpy(MAPS[f"xt-{size}|aux"]), TOLERANCE)


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
    with _checkpoint_file(tmp_path_factory, f"{name}_reparam") as path:
        network = create_model(name, weights=path, fused=False).to(dtype)
    images = _images(f"merged-{variant}", "64x96")[:1].to(dtype)
    want = network(images)
    _assert_relative(fold(network)(images), want, tolerance)


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
    _assert_relative(network_of(variant, "folded")(images)[0], want, TOLERANCE)


def _photo_input(path: Path, variant: str) -> NDArray[np.float32]:
    """Decode, resize, crop and normalise, (3, 224, 224)."""
    with Image.open(path) as photo:
        crop = classification_input(
            photo.convert("RGB"), CLASSIFIERS[f"overlock_{variant}"].geometry
        )
    normalised = (crop.astype(np.float32) / 255 - MEAN) / STD
    return np.ascontiguousarray(normalised.transpose(2, 0, 1))  # (H, W, 3) -> (3, H, W)


def _images(name: str, size: str) -> Tensor:
    """Two of the reference's images, (2, 3, H, W)."""
    height, width = map(int, size.split("x"))
    return torch.from_numpy(model_input([image(f"{name}-{i}", height, width) for i in (0, 1)]))


def _assert_relative(got: Tensor, want: Tensor, tolerance: float) -> None:
    """Compare, relative to the largest magnitude."""
    torch.testing.assert_close(got, want, rtol=0, atol=tolerance * want.abs().max().item())

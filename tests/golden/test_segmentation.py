"""The segmenter gives the authors' numbers.

``seg.npz`` and ``e2e_seg.npz`` hold outputs of the authors' public model under mmsegmentation 0.30
in float32 on a CPU, with the weights of ``golden.fill``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from model.checkpoints.checkpoint import renamed
from model.config import SEGMENTERS
from model.heads.label_map import label_map
from model.heads.upernet import UPerNet
from model.images.preprocess import segmentation_input
from model.inference.predictor import Predictor
from model.lowering.folding import fold
from model.zoo import create_model
from support.checkpoints import official_shapes, official_state
from support.fill import image, model_input

FOLDER = Path(__file__).parent
WANT = dict(np.load(FOLDER / "seg.npz"))
PHOTO_LABELS = dict(np.load(FOLDER / "e2e_seg.npz"))
SIZE = (128, 160)
TOLERANCE = 1e-4  # of the largest value: float32, summed in another order than the authors'


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """XT's official segmenter as mmsegmentation stores it."""
    path = tmp_path_factory.mktemp("checkpoints") / "upernet.pth"
    torch.save({"meta": {}, "state_dict": official_state("upernet_overlock_xt")}, path)
    return path


@pytest.fixture(scope="session")
def trained(checkpoint: Path) -> UPerNet:
    network = create_model("upernet_overlock_xt", weights=checkpoint, fused=False)
    assert isinstance(network, UPerNet)
    return network


@pytest.fixture(scope="session")
def folded(checkpoint: Path) -> UPerNet:
    network = create_model("upernet_overlock_xt", weights=checkpoint)
    assert isinstance(network, UPerNet)
    return network


@pytest.fixture(scope="session")
def images() -> Tensor:
    return torch.from_numpy(model_input([image("seg-xt-128x160", *SIZE)]))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["trained", "folded"])
def test_dense_maps_and_logits_are_the_authors(
    request: pytest.FixtureRequest, images: Tensor, form: str
) -> None:
    network: UPerNet = request.getfixturevalue(form)
    maps = network.backbone.dense_features(images)
    for stage, features in enumerate(maps, start=1):
        _assert_relative(features, f"stage{stage}")
    _assert_relative(network(images), "logits4")


@pytest.mark.slow
def test_channels_last_gives_the_authors_logits(folded: UPerNet, images: Tensor) -> None:
    network = Predictor(folded, torch.device("cpu"), torch.float32).network
    logits = network(images.contiguous(memory_format=torch.channels_last))
    _assert_relative(logits.contiguous(), "logits4")


def test_labels_are_the_authors(folded: UPerNet, images: Tensor) -> None:
    got = label_map(folded(images)[0], SIZE, SIZE).numpy()
    agreement = (got == WANT["xt-128x160-labels"][0]).mean()
    assert agreement >= 0.9999  # the stored numbers' own tolerance is 0.995


@pytest.mark.parametrize("key", PHOTO_LABELS)
def test_a_photo_gets_the_authors_labels(photos_dir: Path, folded: UPerNet, key: str) -> None:
    with Image.open(photos_dir / key.split("|")[1]) as photo:
        pixels = segmentation_input(
            photo.convert("RGB"), SEGMENTERS["upernet_overlock_xt"].geometry
        )
    predictor = Predictor(folded, torch.device("cpu"), torch.float32)
    want = PHOTO_LABELS[key]
    height, width = pixels.shape[:2]
    (got,) = predictor.segment([pixels], (1, height, width), [want.shape])
    assert got is not None
    assert (got == want).mean() >= 0.995


@pytest.mark.parametrize("name", [name for name in SEGMENTERS if name != "demo"])
def test_official_keys_are_exactly_the_networks(name: str) -> None:
    with torch.device("meta"):
        official = {key: torch.empty(shape) for key, shape in official_shapes(name).items()}
        network = UPerNet(SEGMENTERS[name].backbone, 512, 150)
    ours = {key: tensor.shape for key, tensor in network.state_dict().items()}
    assert {key: tensor.shape for key, tensor in renamed(official).items()} == ours


@pytest.mark.slow
def test_another_variant_folds_exactly() -> None:
    name = "upernet_overlock_t"
    config = SEGMENTERS[name]
    network = UPerNet(config.backbone, config.head_channels, 150)
    state = renamed(official_state(name))
    network.load_state_dict(state, strict=False)
    pixels = torch.from_numpy(model_input([image(f"{name}-64x96", 64, 96)]))
    with torch.inference_mode():
        want = network.eval()(pixels)
        got = fold(network)(pixels)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5 * want.abs().max().item())


def _assert_relative(got: Tensor, key: str) -> None:
    """Compare with the stored numbers, relative to their largest magnitude."""
    want = torch.from_numpy(WANT[f"xt-128x160-{key}"])
    torch.testing.assert_close(got, want, rtol=0, atol=TOLERANCE * want.abs().max().item())

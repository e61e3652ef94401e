"""A predictor's input is normalised as its configuration says, in every form of the network.

The reference is the trained form in float64, on an input that is normalised by hand.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.architectures import Network
from model.config import CLASSIFIERS, SEGMENTERS
from model.images.input_config import InputConfig
from model.images.preprocess import padded_size
from model.inference.dtype_selection import choose_dtype
from model.inference.predictor import Predictor
from model.inference.static_module import StaticModule
from model.lowering.cpu import lowering_unsupported_reason
from model.lowering.folding import fold
from model.zoo import create_model
from support.filled import filled
from support.grey import as_grey

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
SIZES = ((64, 96), (97, 33))
RGB = InputConfig(CLASSIFIERS["demo"].geometry, (0.5, 0.4, 0.3), (0.3, 0.2, 0.1))
GREY = InputConfig(CLASSIFIERS["demo"].geometry, (0.45,), (0.22,))
BOUNDS = {torch.float32: 1e-4, torch.bfloat16: 3e-2}
"""float32 keeps 24 significant bits and bfloat16 8, over some forty layers."""

dtypes = pytest.mark.parametrize(
    "dtype",
    [
        torch.float32,
        pytest.param(
            torch.bfloat16,
            marks=pytest.mark.skipif(
                lowering_unsupported_reason(torch.bfloat16) is not None,
                reason=str(lowering_unsupported_reason(torch.bfloat16)),
            ),
        ),
    ],
    ids=str,
)


def pictures(count: int, height: int, width: int) -> list[NDArray[np.uint8]]:
    generator = np.random.default_rng(3)
    return [generator.integers(0, 256, (height, width, 3), np.uint8) for _ in range(count)]


def trained(config: InputConfig, *, task: str = "classify", classes: int = 5) -> Network:
    network = create_model("demo", task=task, weights="random", num_classes=classes, fused=False)
    return filled(network if config.channels == 3 else as_grey(network), torch.float32)


def normalised(images: Sequence[NDArray[np.uint8]], config: InputConfig) -> Tensor:
    values = np.stack(images)[..., : config.channels] / 255
    values = (values - np.array(config.mean)) / np.array(config.std)
    return torch.from_numpy(values).permute(0, 3, 1, 2)


def logits_of(
    predictor: Predictor, images: list[NDArray[np.uint8]], size: tuple[int, int]
) -> Tensor:
    rows = predictor.classify(images, (len(images), *size))
    return torch.from_numpy(np.stack(cast("list[NDArray[np.float32]]", rows)))


def assert_near(got: Tensor, want: Tensor, bound: float) -> None:
    assert got.shape == want.shape
    assert torch.linalg.vector_norm(got - want) < bound * torch.linalg.vector_norm(want)


@dtypes
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("config", [RGB, GREY], ids=["RGB", "grey"])
def test_logits_are_those_of_the_trained_network(
    config: InputConfig, size: tuple[int, int], dtype: torch.dtype
) -> None:
    network, images = trained(config), pictures(3, *size)
    with torch.inference_mode():
        want = copy.deepcopy(network).double()(normalised(images, config))
    predictor = Predictor(fold(network), CPU, dtype, input_config=config)
    assert_near(logits_of(predictor, images, size), want, BOUNDS[dtype])


@pytest.mark.compiler
def test_a_grey_network_is_compiled() -> None:
    network, images = trained(GREY), pictures(2, 64, 64)
    with torch.inference_mode():
        want = copy.deepcopy(network).double()(normalised(images, GREY))
    predictor = Predictor(fold(network), CPU, torch.float32, input_config=GREY, compiler="eager")
    predictor.prepare((2, 64, 64))
    assert_near(logits_of(predictor, images, (64, 64)), want, BOUNDS[torch.float32])


def test_a_grey_network_takes_the_first_channel_and_its_padding_is_zero() -> None:
    module = StaticModule(nn.Identity(), CPU, torch.float32, GREY)
    pixels = torch.randint(1, 256, (2, 5, 7, 3), dtype=torch.uint8)
    got = module.normalise(pixels, torch.tensor([[5, 7], [3, 4]]))
    want = (pixels[:, None, :, :, 0] / 255 - 0.45) / 0.22
    want[1, :, 3:], want[1, :, :, 4:] = 0, 0
    torch.testing.assert_close(got, want, rtol=0, atol=1e-6)
    assert got.is_contiguous(memory_format=torch.channels_last)


def test_a_network_of_other_channels_than_images_have_is_refused() -> None:
    config = InputConfig(CLASSIFIERS["demo"].geometry, (0.5,) * 4, (0.2,) * 4)
    with pytest.raises(
        ValueError, match="the network's input has 4 channels; an image has 3, or 1"
    ):
        Predictor(nn.Identity(), CPU, torch.float32, input_config=config)


def test_a_grey_networks_dtype_is_measured() -> None:
    assert choose_dtype(fold(trained(GREY))).dtype in BOUNDS


@pytest.mark.parametrize("fused", [True, False])
def test_a_backbone_knows_its_channels_in_both_forms(fused: bool) -> None:
    for config in (RGB, GREY):
        network = trained(config)
        backbone = (fold(network) if fused else network).backbone
        assert backbone.in_channels == config.channels


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("grows", [True, False])
def test_a_segmenter_of_one_class_is_thresholded_at_a_half(
    size: tuple[int, int], grows: bool
) -> None:
    """At the image's size: the logits are resized, not the label map."""
    config = InputConfig(SEGMENTERS["demo"].geometry)
    network = trained(config, task="segment", classes=1)
    height, width = (size[0] * 3 + 1, size[1] * 2 + 1) if grows else (size[0] // 2, size[1] // 3)
    padded = padded_size(*size, 32)
    images = pictures(2, *padded)
    with torch.inference_mode():
        logits = copy.deepcopy(network).double()(normalised(images, config))
        for shape in (padded, (height, width)):
            logits = nn.functional.interpolate(logits, shape, mode="bilinear", align_corners=False)
    # The middle of the logits as the threshold, so that both classes occur.
    middle = logits.median()
    network.head.classify.bias -= middle.float()  # type: ignore[union-attr]
    want = torch.sigmoid(logits[:, 0] - middle) > 0.5
    sure = (logits[:, 0] - middle).abs() > 1e-4 * logits.abs().max()
    assert sure.double().mean() > 0.95
    predictor = Predictor(fold(network), CPU, torch.float32, input_config=config)
    label_maps = predictor.segment(images, (2, *padded), [(height, width)] * 2)
    for got, expected, certain in zip(label_maps, want, sure, strict=True):
        assert got is not None
        assert got.dtype == np.uint8
        assert (got == expected.numpy())[certain.numpy()].all()
        assert set(np.unique(got)) == {0, 1}


def test_a_pixel_on_the_threshold_is_background() -> None:
    class Zeros(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.new_zeros(len(images), 1, 8, 8)

    (got,) = Predictor(Zeros(), CPU, torch.float32).segment(
        pictures(1, 32, 32), (1, 32, 32), [(50, 41)]
    )
    assert got is not None
    assert got.shape == (50, 41)
    assert not got.any()


def test_what_is_not_finite_in_one_class_has_no_label_map() -> None:
    class Broken(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.new_full((len(images), 1, 8, 8), float("nan"))

    assert Predictor(Broken(), CPU, torch.float32).segment(
        pictures(1, 32, 32), (1, 32, 32), [(50, 41)]
    ) == [None]

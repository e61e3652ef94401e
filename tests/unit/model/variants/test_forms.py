"""Backbones of one's own: every form equals the reference, at sizes of every kind."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from model.config import BackboneConfig
from model.heads.classifier import ImageClassifier
from model.kernels.gpu.autotune import Autotuner
from model.lowering.cpu import lower_for_cpu, lowering_unsupported_reason
from model.lowering.folding import fold, merge_branches
from model.lowering.gpu import lower_for_gpu
from model.zoo import create_model
from support.filled import random_map
from support.reference_network import Reference, ReferenceOutputs
from support.reference_shapes import official_state_of

CLASSES = 6
VARIANTS = {
    "plain": BackboneConfig(
        depths=(1, 2, 1, 1),
        focus_depths=(2, 1),
        channels=(12, 20, 24, 48),
        focus_heads=(3, 2),
        kernel_sizes=(19, 5, 9, 11),
        small_kernel=3,
        mlp_ratio=2.5,
        focus_mlp_ratio=2.5,
        layer_scale=(False, False, False, False),
        head_channels=40,
        in_channels=1,
    ),
    "scaled": BackboneConfig(
        depths=(1, 1, 1, 1),
        focus_depths=(1, 2),
        channels=(14, 18, 28, 36),
        focus_heads=(1, 3),
        kernel_sizes=(5, 9, 15, 19),
        small_kernel=7,
        mlp_ratio=(4, 2.33, 1, 3.5),
        focus_mlp_ratio=(1.5, 4),
        layer_scale=(True, True, False, True),
        context_grid=5,
        head_channels=33,
        in_channels=4,
    ),
    "usual": BackboneConfig(
        depths=(1, 1, 1, 2),
        focus_depths=(1, 1),
        channels=(16, 32, 40, 60),
        focus_heads=(5, 3),
        kernel_sizes=(11, 7, 17, 5),
        head_channels=64,
    ),
}
SIZES = ((32, 32), (33, 47), (176, 176), (97, 64))
EXACT = 1e-9  # float64, some forty layers
FLOAT32 = 2e-5  # of the largest output


@pytest.fixture(scope="session")
def trained_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ImageClassifier]:
    """Return a variant's network in float64, read from an official file."""

    @cache
    def trained(name: str) -> ImageClassifier:
        path = tmp_path_factory.mktemp("variants") / f"{name}.pth"
        torch.save(official_state_of(VARIANTS[name], CLASSES), path)
        network = create_model(VARIANTS[name], weights=path, fused=False)
        assert isinstance(network, ImageClassifier)
        return network.double()

    return trained


FORMS: dict[str, Callable[[ImageClassifier], ImageClassifier]] = {
    "trained": lambda network: network,
    "merged": merge_branches,
    "folded": fold,
    "for a GPU": lambda network: lowered_for_gpu(fold(network)),
}


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", VARIANTS)
def test_a_form_is_the_reference(
    trained_of: Callable[[str], ImageClassifier], name: str, form: str, size: tuple[int, int]
) -> None:
    network = FORMS[form](copy.deepcopy(trained_of(name)))
    with torch.inference_mode():
        got = network(images_of(name, size))
        maps = network.backbone.dense_features(images_of(name, size))
    want = reference(name, size)
    assert_relative(got, want.logits, EXACT)
    for got_map, want_map in zip(maps, want.maps, strict=True):
        assert_relative(got_map, want_map, EXACT)
    assert_looks_are(network, images_of(name, size), want, EXACT)


@pytest.mark.slow
@pytest.mark.skipif(
    lowering_unsupported_reason(torch.float32) is not None,
    reason=str(lowering_unsupported_reason(torch.float32)),
)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", VARIANTS)
def test_the_form_for_a_cpu_is_the_reference(
    trained_of: Callable[[str], ImageClassifier], name: str, size: tuple[int, int]
) -> None:
    network = lower_for_cpu(fold(copy.deepcopy(trained_of(name)).float()), torch.float32)
    images = images_of(name, size).float().contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        assert_relative(network(images), reference(name, size).logits, FLOAT32)
    assert_looks_are(network, images, reference(name, size), FLOAT32)


@pytest.mark.slow
@pytest.mark.skipif(
    lowering_unsupported_reason(torch.bfloat16) is not None,
    reason=str(lowering_unsupported_reason(torch.bfloat16)),
)
@pytest.mark.parametrize("name", VARIANTS)
def test_bfloat16_stays_within_three_percent(
    trained_of: Callable[[str], ImageClassifier], name: str
) -> None:
    network = lower_for_cpu(fold(copy.deepcopy(trained_of(name)).float()), torch.bfloat16)
    with torch.inference_mode():
        got = network(images_of(name, (97, 64)).bfloat16()).double()
    want = reference(name, (97, 64)).logits
    assert (got - want).norm() / want.norm() < 0.03


@cache
def reference(name: str, size: tuple[int, int]) -> ReferenceOutputs:
    network = Reference(official_state_of(VARIANTS[name], CLASSES), VARIANTS[name])
    with torch.inference_mode():
        return network(images_of(name, size))


def images_of(name: str, size: tuple[int, int]) -> Tensor:
    return random_map(2, VARIANTS[name].in_channels, *size)


def lowered_for_gpu(network: ImageClassifier) -> ImageClassifier:
    lower_for_gpu(network, Autotuner())
    return network


@torch.inference_mode()
def assert_looks_are(
    network: ImageClassifier, images: Tensor, want: ReferenceOutputs, tolerance: float
) -> None:
    """Compare the embeddings of all layers, class maps, and the maps' means with the logits."""
    means = network.layer_means(images)
    assert list(means) == list(network.layer_dimensions) == list(want.means)
    for layer, mean in means.items():
        assert mean.shape == (len(images), network.layer_dimensions[layer])
        assert_relative(mean, want.means[layer], tolerance)
    maps = network.class_maps(images)
    assert maps.overview is not None
    for got, want_map, logits in (
        (maps.focus, want.focus, want.logits),
        (maps.overview, want.overview, want.overview_logits),
    ):
        assert_relative(got, want_map, tolerance)
        assert_relative(got.mean(dim=(2, 3)), logits, tolerance)


def assert_relative(got: Tensor, want: Tensor, tolerance: float) -> None:
    assert_close(got.double(), want, rtol=0, atol=tolerance * want.abs().max().item())

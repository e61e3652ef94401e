"""Embeddings and class maps are the authors', in every form.

``maps.npz`` holds means of their network's maps and class maps of the first 20 classes; other
variants and sizes are compared with hooks on the trained form.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from model.config import CLASSIFIERS
from model.heads.classifier import ImageClassifier
from model.lowering.cpu import lowering_unsupported_reason
from support.golden_networks import FORMS, TOLERANCE, NetworkOf, assert_relative, images_of

MAPS = dict(np.load(Path(__file__).parent / "maps.npz"))
LAYERS = ("head", "stage1", "stage2", "stage3", "overview", "focus3", "focus4")
VARIANTS = [name.removeprefix("overlock_") for name in CLASSIFIERS if name != "demo"]
ALL_FORMS = (*FORMS, "for a GPU")
HOOKED = 1e-5  # of the largest value: the folded form's rounding


@pytest.mark.slow
@pytest.mark.parametrize("form", ALL_FORMS)
@pytest.mark.parametrize("size", ["128x160", "96x96"])
@torch.inference_mode()
def test_means_and_class_maps_are_the_authors(network_of: NetworkOf, size: str, form: str) -> None:
    network = network_of("xt", form)
    images = images_of(f"maps-xt-{size}", size)
    want = {
        key.split("|")[1]: torch.from_numpy(array)
        for key, array in MAPS.items()
        if key.startswith(f"xt-{size}|")
    }
    for layer in LAYERS:
        assert_relative(network.embed(images, layer), want[layer], TOLERANCE)
    assert_relative(network.embed(images, "backbone"), want["focus4"], TOLERANCE)
    assert_relative(network.embed(images), want["head"], TOLERANCE)
    maps = network.class_maps(images)
    assert maps.overview is not None
    assert_relative(maps.focus[:, :20], want["focus"], TOLERANCE)
    assert_relative(maps.overview[:, :20], want["overview_map"], TOLERANCE)
    assert_relative(maps.focus.mean(dim=(2, 3)), want["logits"], TOLERANCE)
    assert_relative(maps.overview.mean(dim=(2, 3)), want["aux"], TOLERANCE)


def exhaustive(variant: str, size: str) -> bool:
    return variant in {"s", "b"} or (variant == "t" and size == "224x224")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "size"),
    [
        pytest.param(
            variant, size, marks=pytest.mark.exhaustive if exhaustive(variant, size) else ()
        )
        for variant in VARIANTS
        for size in ("224x224", "97x65")
    ],
)
@torch.inference_mode()
def test_every_form_is_hooks_on_the_trained_one(
    network_of: NetworkOf, variant: str, size: str
) -> None:
    trained = network_of(variant, "trained")
    images = images_of(f"looks-{variant}-{size}", size)
    want = hooked(trained, images)
    for form in ("trained", "folded", "native", "for a GPU"):
        network = network_of(variant, form)
        for layer in ("head", "backbone"):
            assert_relative(network.embed(images, layer), want[layer], HOOKED)
        maps = network.class_maps(images)
        assert maps.overview is not None
        assert_relative(maps.focus.mean(dim=(2, 3)), network(images), TOLERANCE)
        assert_relative(maps.focus.mean(dim=(2, 3)), want["logits"], TOLERANCE)
        assert_relative(maps.overview.mean(dim=(2, 3)), want["overview_logits"], TOLERANCE)


@pytest.mark.slow
@pytest.mark.skipif(
    lowering_unsupported_reason(torch.bfloat16) is not None,
    reason=str(lowering_unsupported_reason(torch.bfloat16)),
)
@torch.inference_mode()
def test_in_bfloat16_a_maps_mean_is_nearer_to_the_logit_than_the_logit_to_its_own(
    network_of: NetworkOf,
) -> None:
    images = images_of("looks-xt-96x160", "96x160")
    exact = network_of("xt", "folded")(images)
    network = network_of("xt", "bfloat16")
    logits = network(images.bfloat16())
    means = network.class_maps(images.bfloat16()).focus.mean(dim=(2, 3))
    rounding = (logits.float() - exact).norm()
    assert (means - logits.float()).norm() < rounding
    assert (means - exact).norm() < 1.01 * rounding


def hooked(network: ImageClassifier, images: Tensor) -> dict[str, Tensor]:
    """Read what passes through a network while it classifies."""
    seen: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[name] = inputs[0].mean(dim=(2, 3))

    assert network.overview_head is not None
    hooks = [
        network.head.classify.register_forward_pre_hook(partial(keep, "head")),
        network.head.register_forward_pre_hook(partial(keep, "backbone")),
    ]
    seen["logits"] = network(images)
    for hook in hooks:
        hook.remove()
    seen["overview_logits"] = network.overview_head(network.backbone.stage_maps(images).overview)
    return seen

"""A network lowered for a CPU computes the same as its folded form."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from model.config import CLASSIFIERS, BackboneConfig
from model.heads import mask_rcnn
from model.heads.classifier import ImageClassifier
from model.heads.mask_rcnn import MaskRCNN
from model.heads.upernet import UPerNet
from model.lowering.cpu import lower_for_cpu, lowering_unsupported_reason
from model.lowering.folding import fold
from model.zoo import create_model
from support.filled import filled, random_map
from support.native_kernels import forget

pytestmark = pytest.mark.skipif(
    lowering_unsupported_reason(torch.float32) is not None,
    reason=str(lowering_unsupported_reason(torch.float32)),
)

BFLOAT16 = pytest.mark.skipif(
    lowering_unsupported_reason(torch.bfloat16) is not None,
    reason=str(lowering_unsupported_reason(torch.bfloat16)),
)
CONFIG = CLASSIFIERS["demo"].backbone
UNEVEN = BackboneConfig(  # widths that no vector divides, every kernel, two blocks where it matters
    depths=(1, 1, 2, 1), focus_depths=(2, 2), channels=(20, 36, 56, 88), focus_heads=(2, 2)
)
FLOAT32 = 2e-5  # of the largest output; some sixty layers, summed in another order
SIZES = [(32, 32), (96, 64), (224, 224), (33, 209)]


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def classifier(config: BackboneConfig, dtype: torch.dtype) -> ImageClassifier:
    return fold(filled(ImageClassifier(config, 5), dtype))


def assert_relative(got: Tensor, want: Tensor, tolerance: float) -> None:
    got = got.to(want.dtype)
    assert_close(got, want, rtol=0, atol=tolerance * float(want.abs().max()))


@pytest.mark.slow
@pytest.mark.parametrize("config", [CONFIG, UNEVEN], ids=["demo", "uneven"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("batch", [1, 3])
def test_a_classifier_is_the_same_function(
    batch: int, size: tuple[int, int], config: BackboneConfig
) -> None:
    images = random_map(batch, 3, *size)
    native, exact = native_and_exact(config)
    got = native(images.float().to(memory_format=torch.channels_last))
    assert_relative(got, exact(images), FLOAT32)


@cache
def native_and_exact(config: BackboneConfig) -> tuple[nn.Module, nn.Module]:
    native = lower_for_cpu(classifier(config, torch.float32), torch.float32)
    return native, classifier(config, torch.float64)


def test_images_may_come_in_any_memory_format() -> None:
    native = lower_for_cpu(classifier(CONFIG, torch.float32), torch.float32)
    images = random_map(2, 3, 64, 96).float()
    want = native(images.to(memory_format=torch.channels_last))
    assert_relative(native(images), want, 1e-6)


@BFLOAT16
@pytest.mark.parametrize("config", [CONFIG, UNEVEN], ids=["demo", "uneven"])
def test_bfloat16_stays_within_two_percent(config: BackboneConfig) -> None:
    images = random_map(2, 3, 224, 224)
    native = lower_for_cpu(classifier(config, torch.float32), torch.bfloat16)
    got = native(images.bfloat16().to(memory_format=torch.channels_last))
    assert relative_norm(got, classifier(config, torch.float32)(images.float())) < 0.02


@pytest.mark.slow
@BFLOAT16
def test_bfloat16_is_no_worse_than_pytorchs() -> None:
    # Sums, norms and softmaxes stay in float32. Many images: of one it is as much chance.
    images = random_map(24, 3, 96, 96)
    want = classifier(CONFIG, torch.float64)(images)
    images = images.bfloat16().to(memory_format=torch.channels_last)
    folded = classifier(CONFIG, torch.float32).bfloat16()(images)
    got = lower_for_cpu(classifier(CONFIG, torch.float32), torch.bfloat16)(images)
    assert relative_norm(got, want) < relative_norm(folded, want)


def relative_norm(got: Tensor, want: Tensor) -> float:
    return float((got.double() - want).norm() / want.norm())


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 96), (224, 160)], ids=str)
def test_a_segmenter_is_the_same_function(size: tuple[int, int]) -> None:
    images = random_map(2, 3, *size)
    want = fold(filled(UPerNet(UNEVEN, 24, 7)))(images)
    native = lower_for_cpu(fold(filled(UPerNet(UNEVEN, 24, 7), torch.float32)), torch.float32)
    assert_relative(native(images.float()), want, FLOAT32)


def test_a_detector_is_the_same_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mask_rcnn, "PYRAMID_CHANNELS", 40)
    monkeypatch.setattr(mask_rcnn, "BOX_HEAD_CHANNELS", 72)

    def network() -> MaskRCNN:
        return fold(filled(MaskRCNN(UNEVEN, 4, cascade=False), torch.float32))

    images = random_map(1, 3, 64, 96).float()
    want, got = network(), lower_for_cpu(network(), torch.float32)
    want_maps, got_maps = (each.backbone.dense_features(images) for each in (want, got))
    for got_map, want_map in zip(got_maps, want_maps, strict=True):
        assert_relative(got_map, want_map, FLOAT32)
    (want_found,), (got_found,) = (each(images, [(64, 96)]) for each in (want, got))
    assert_relative(got_found.boxes, want_found.boxes, 1e-3)
    assert got_found.labels.tolist() == want_found.labels.tolist()
    assert_close(got_found.masks, want_found.masks, rtol=0, atol=1e-3)


def test_every_dense_convolution_is_packed() -> None:
    native = lower_for_cpu(create_model("demo", weights="demo"), torch.float32)
    assert not [part for part in native.modules() if isinstance(part, nn.Conv2d)]


def test_lowering_again_changes_nothing() -> None:
    native = lower_for_cpu(classifier(CONFIG, torch.float32), torch.float32)
    images = random_map(1, 3, 64, 64).float()
    want = native(images)
    assert_close(lower_for_cpu(native, torch.float32)(images), want, rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"in torch\.float32 already"):
        lower_for_cpu(native, torch.bfloat16)


def test_what_has_no_kernels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no kernels for torch\.float64"):
        lower_for_cpu(classifier(CONFIG, torch.float64), torch.float64)


def test_a_machine_without_a_compiler_is_not_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    forget()
    monkeypatch.setenv("PATH", "/nowhere")
    assert "no C compiler" in str(lowering_unsupported_reason(torch.float32))
    monkeypatch.undo()
    forget()

"""The baseline of every speed-up computes what the served network computes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.testing import assert_close

from benchmarks.authors_structure import (
    ConvolvedLayerScale,
    FlippingLayerNorm2d,
    sum_windows_by_rows,
    with_authors_structure,
)
from model.backbone.context_mixing import ContextMixing
from model.backbone.layers import LayerNorm2d, LayerScale
from model.config import CLASSIFIERS
from model.heads.classifier import ImageClassifier
from model.kernels.context_mixing_reference import sum_windows, window_starts
from model.lowering.folding import fold
from support.filled import filled, random_map


def test_the_baseline_is_the_same_function() -> None:
    trained = filled(ImageClassifier(CLASSIFIERS["demo"].backbone, 5))
    images = random_map(2, 3, 96, 64)
    with torch.no_grad():
        want = fold(copy.deepcopy(trained))(images)
        assert_close(with_authors_structure(trained)(images), want, rtol=1e-9, atol=1e-9)


def test_the_baseline_has_the_authors_parts() -> None:
    network = with_authors_structure(filled(ImageClassifier(CLASSIFIERS["demo"].backbone, 5)))
    kinds = {type(part) for part in network.modules()}
    assert {ConvolvedLayerScale, FlippingLayerNorm2d} <= kinds
    assert not kinds & {LayerScale, LayerNorm2d}
    mixings = [part for part in network.modules() if isinstance(part, ContextMixing)]
    assert mixings
    assert {part.sum_windows for part in mixings} == {sum_windows_by_rows}


@pytest.mark.parametrize(("height", "width", "kernel_size"), [(5, 5, 5), (9, 6, 5), (7, 13, 3)])
def test_rows_have_the_sums_of_whole_maps(height: int, width: int, kernel_size: int) -> None:
    values = random_map(2, 6, height, width)
    weights = random_map(2, 3, height * width, kernel_size**2).softmax(dim=-1)
    weights = weights.view(2, 3, height, width, kernel_size, kernel_size)
    starts = [window_starts(size, kernel_size, values.device) for size in (height, width)]
    want = sum_windows(values, weights, *starts)
    assert_close(sum_windows_by_rows(values, weights, *starts), want, rtol=1e-9, atol=1e-9)

"""The baseline of every speed-up computes what the served network computes."""

from __future__ import annotations

import copy

import torch
from torch.testing import assert_close

from benchmarks.authors_structure import (
    ConvolvedLayerScale,
    FlippingLayerNorm2d,
    with_authors_structure,
)
from model.backbone.layers import LayerNorm2d, LayerScale
from model.config import CLASSIFIERS
from model.heads.classifier import ImageClassifier
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

"""Folding a whole network."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from model.backbone.context_mixing import FoldedContextMixing
from model.backbone.layers import ConvNorm, NormConv, ResidualDepthwise
from model.config import CLASSIFIERS
from model.heads.classifier import ImageClassifier
from model.lowering.folding import fold, merge_branches
from support.filled import filled, random_map

CONFIG = CLASSIFIERS["demo"].backbone
EXACT = 1e-9  # float64, some sixty layers


@pytest.fixture(scope="module")
def trained() -> ImageClassifier:
    return filled(ImageClassifier(CONFIG, 5))


def test_folded_network_is_the_same_function(trained: ImageClassifier) -> None:
    images = random_map(2, 3, 96, 64)
    assert_close(fold(copy.deepcopy(trained))(images), trained(images), rtol=EXACT, atol=EXACT)


def test_merged_network_is_the_same_function(trained: ImageClassifier) -> None:
    images = random_map(2, 3, 96, 64)
    assert_close(
        merge_branches(copy.deepcopy(trained))(images), trained(images), rtol=EXACT, atol=EXACT
    )


def test_merged_network_has_the_form_of_a_merged_checkpoint(trained: ImageClassifier) -> None:
    merged = merge_branches(copy.deepcopy(trained))
    want = ImageClassifier(CONFIG, 5, merged=True).state_dict()
    assert {name: tensor.shape for name, tensor in merged.state_dict().items()} == {
        name: tensor.shape for name, tensor in want.items()
    }


def test_nothing_foldable_is_left(trained: ImageClassifier) -> None:
    left = (nn.BatchNorm2d, ConvNorm, NormConv, ResidualDepthwise)
    parts = list(fold(copy.deepcopy(trained)).modules())
    assert not any(isinstance(part, left) for part in parts)
    assert any(isinstance(part, FoldedContextMixing) for part in parts)


def test_folding_twice_changes_nothing(trained: ImageClassifier) -> None:
    images = random_map(1, 3, 64, 64)
    once = fold(copy.deepcopy(trained))
    assert_close(fold(copy.deepcopy(once))(images), once(images), rtol=0, atol=0)


def test_network_in_training_is_not_folded(trained: ImageClassifier) -> None:
    with pytest.raises(ValueError, match="call eval"):
        fold(copy.deepcopy(trained).train())


def test_folded_network_survives_its_state_dict(trained: ImageClassifier) -> None:
    folded = fold(copy.deepcopy(trained))
    other = fold(ImageClassifier(CONFIG, 5).double().eval())
    other.load_state_dict(folded.state_dict())
    images = random_map(1, 3, 64, 64)
    with torch.no_grad():
        assert_close(other(images), folded(images), rtol=0, atol=0)

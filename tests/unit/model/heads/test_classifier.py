"""The classifier's head."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch.testing import assert_close

from model.config import BACKBONES
from model.heads.classifier import ClassifierHead, ImageClassifier, OverviewHead
from support.filled import filled, random_map


def test_head_pools_after_its_activation() -> None:
    head = filled(ClassifierHead(6, 8, 5))
    features = random_map(2, 6, 3, 4)
    pooled = F.silu(head.project(features)).mean(dim=(2, 3))
    classify = head.classify
    want = F.linear(pooled, classify.weight[:, :, 0, 0], classify.bias)
    assert_close(head(features), want, rtol=0, atol=1e-12)  # float64, short sums


def test_the_folded_overview_head_is_the_same_function() -> None:
    head = filled(OverviewHead(6, 5))
    overview = random_map(2, 6, 3, 4)
    want = head(overview)
    folded = head.folded()
    assert_close(folded(overview), want, rtol=0, atol=1e-12)  # float64, short sums
    maps = folded.classify(overview)
    assert_close(maps.mean(dim=(2, 3)), want, rtol=0, atol=1e-12)


def test_a_classifier_returns_its_overview_heads_logits_in_training_alone() -> None:
    network = ImageClassifier(BACKBONES["nano"], 3, overview_head=True)
    images = random_map(2, 3, 64, 64, dtype=torch.float32)
    logits, overview_logits = network.train()(images)
    assert logits.shape == overview_logits.shape == (2, 3)
    assert network.eval()(images).shape == (2, 3)
    network.overview_head = None
    assert network.train()(images).shape == (2, 3)

"""The classifier's head."""

from __future__ import annotations

import torch.nn.functional as F
from torch.testing import assert_close

from model.heads.classifier import ClassifierHead
from support.filled import filled, random_map


def test_head_pools_after_its_activation() -> None:
    head = filled(ClassifierHead(6, 8, 5))
    features = random_map(2, 6, 3, 4)
    pooled = F.silu(head.project(features)).mean(dim=(2, 3))
    classify = head.classify
    want = F.linear(pooled, classify.weight[:, :, 0, 0], classify.bias)
    assert_close(head(features), want, rtol=0, atol=1e-12)  # float64, short sums

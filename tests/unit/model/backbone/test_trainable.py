"""A folded network is for inference only."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from model.backbone.overlock import OverLoCK
from model.backbone.trainable import Trainable
from model.config import BACKBONES
from model.heads.classifier import ImageClassifier
from model.heads.mask_rcnn import MaskRCNN
from model.heads.upernet import UPerNet
from model.lowering.cpu import lower_for_cpu
from model.lowering.folding import fold

NANO = BACKBONES["nano"]
NETWORKS: dict[str, Callable[[], Trainable]] = {
    "backbone": lambda: OverLoCK(NANO),
    "classifier": lambda: ImageClassifier(NANO, 3, overview_head=True),
    "segmenter": lambda: UPerNet(NANO, 8, 3),
    "detector": lambda: MaskRCNN(NANO, 3, cascade=False),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_folded_network_refuses_to_be_trained(kind: str) -> None:
    network = fold(NETWORKS[kind]().eval())
    with pytest.raises(ValueError, match=r"inference only and cannot be trained.*fused=False"):
        network.train()
    assert not any(part.training for part in network.modules())
    assert network.eval() is network


def test_a_lowered_network_refuses_it_too() -> None:
    network = lower_for_cpu(fold(ImageClassifier(NANO, 3).eval()), torch.float32)
    with pytest.raises(ValueError, match="inference only"):
        network.train()


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_trained_form_changes_its_mode(kind: str) -> None:
    network = NETWORKS[kind]().eval().train()
    assert all(part.training for part in network.modules())
    assert any(isinstance(part, nn.BatchNorm2d) for part in network.eval().modules())

"""A checkpoint of the demo classifier."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.config import CLASSIFIERS
from model.heads.classifier import ImageClassifier
from support.filled import filled

NUM_CLASSES = 7


@pytest.fixture(scope="module")
def network() -> ImageClassifier:
    return filled(ImageClassifier(CLASSIFIERS["demo"].backbone, NUM_CLASSES), torch.float32)


@pytest.fixture
def state(network: ImageClassifier) -> dict[str, Tensor]:
    return dict(network.state_dict())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.pth"

"""A traced network that is small enough for every test: few channels, the paper's kernels."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram

from model.config import BackboneConfig
from model.export.comparison import expected_logits
from model.export.program import traced
from model.heads.classifier import ImageClassifier
from model.lowering.folding import fold
from model.lowering.portable import make_portable
from support.filled import filled

SIDE = 224  # maps of 14 and 7 pixels, as large as the windows and larger
METADATA = {"model": "small", "labels": '["Käfer", "bird"]'}

SMALL = BackboneConfig(
    depths=(1, 1, 1, 1),
    focus_depths=(1, 1),
    channels=(8, 8, 16, 16),
    focus_heads=(1, 1),
    head_channels=16,
)


def some_images(count: int = 3) -> NDArray[np.float32]:
    """Return normalised noise, (B, 3, 224, 224)."""
    random = np.random.default_rng(0)
    return random.standard_normal((count, 3, SIDE, SIDE)).astype(np.float32)


@cache
def small_program() -> tuple[ExportedProgram, NDArray[np.float32]]:
    """Return a traced classifier, and its logits of ``some_images`` before it was traced."""
    network = fold(filled(ImageClassifier(SMALL, 2), torch.float32))
    network.requires_grad_(requires_grad=False)  # as load_model returns it
    expected = expected_logits(network, some_images())
    return traced(make_portable(network), 3, (SIDE, SIDE)), expected

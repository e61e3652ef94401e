"""A portable network computes the same as its folded form, from maps of every size."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch.testing import assert_close

from model.config import CLASSIFIERS
from model.heads.classifier import ImageClassifier
from model.heads.upernet import UPerNet
from model.lowering.folding import fold
from model.lowering.portable import make_portable
from support.filled import filled, random_map

CONFIG = CLASSIFIERS["demo"].backbone
NETWORKS = {
    "classifier": ImageClassifier(CONFIG, 5),
    "segmenter": UPerNet(CONFIG, 16, 5),
}


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 64), (96, 320), (224, 224), (288, 256)], ids=str)
@pytest.mark.parametrize("kind", NETWORKS)
def test_the_portable_form_is_the_same_function(kind: str, size: tuple[int, int]) -> None:
    folded = fold(filled(deepcopy(NETWORKS[kind]), torch.float32)).requires_grad_(False)
    images = random_map(2, 3, *size, dtype=torch.float32)
    expected = folded(images)
    got = make_portable(folded)(images)
    # float32: some sixty layers; sums of ContMix in another order
    assert_close(got, expected, rtol=0, atol=2e-5 * float(expected.abs().max()))


def test_a_network_in_its_trained_form_is_refused() -> None:
    with pytest.raises(ValueError, match="Only a folded network"):
        make_portable(ImageClassifier(CONFIG, 5).eval())

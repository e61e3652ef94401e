"""A new head has the rows of its classes and the authors' random weights; all else stays."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from model.checkpoints.checkpoint import Checkpoint
from model.checkpoints.class_table import ClassTable
from model.checkpoints.new_head import with_new_head
from model.images.input_config import InputOptions

SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "classifier": {
        "head.project.conv.weight": (64, 20, 1, 1),
        "head.classify.weight": (1000, 64, 1, 1),
        "head.classify.bias": (1000,),
        "overview_head.norm.weight": (64,),
        "overview_head.classify.weight": (1000, 64, 1, 1),
    },
    "segmenter": {
        "head.bottleneck.conv.weight": (64, 20, 3, 3),
        "head.classify.weight": (150, 64, 1, 1),
        "head.classify.bias": (150,),
    },
    "detector": {
        "rpn.classify.weight": (3, 64, 1, 1),
        "roi_heads.box_heads.0.classify.weight": (81, 64),
        "roi_heads.box_heads.0.regress.weight": (320, 64),
        "roi_heads.box_heads.0.regress.bias": (320,),
        "roi_heads.mask_heads.0.classify.weight": (80, 64, 1, 1),
    },
    "cascade": {
        "roi_heads.box_heads.0.classify.weight": (81, 64),
        "roi_heads.box_heads.1.classify.bias": (81,),
        "roi_heads.box_heads.1.classify.weight": (81, 64),
        "roi_heads.box_heads.1.regress.weight": (4, 64),
        "roi_heads.mask_heads.2.classify.weight": (80, 64, 1, 1),
    },
}
CLASSES = 50
NEW_ROWS = {
    "head.classify": CLASSES,
    "overview_head.classify": CLASSES,
    "box_heads.0.classify": CLASSES + 1,
    "box_heads.1.classify": CLASSES + 1,
    "box_heads.0.regress": 4 * CLASSES,
    "mask_heads.0.classify": CLASSES,
    "mask_heads.2.classify": CLASSES,
}
STANDARD_DEVIATIONS = {
    ("classifier", "head.classify"): 0.02,
    ("classifier", "overview_head.classify"): 0.02,
    ("segmenter", "head.classify"): 0.01,
    ("detector", "box_heads.0.classify"): 0.01,
    ("detector", "box_heads.0.regress"): 0.001,
    ("detector", "mask_heads.0.classify"): (2 / CLASSES) ** 0.5,
}


def checkpoint_of(kind: str) -> Checkpoint:
    state = {name: torch.ones(shape) for name, shape in SHAPES[kind].items()}
    labels = ClassTable(("old",))
    digest = hashlib.sha256().hexdigest()
    return Checkpoint(
        Path("old.pth"), digest, state, labels, {}, "raw", has_both=False, input=InputOptions()
    )


def layer_of(name: str) -> str:
    return name.rpartition(".")[0].removeprefix("roi_heads.")


@pytest.mark.parametrize("kind", SHAPES)
def test_the_layers_of_the_classes_alone_are_new(kind: str) -> None:
    state = with_new_head(checkpoint_of(kind), CLASSES).state
    assert list(state) == list(SHAPES[kind])
    for name, tensor in state.items():
        old = SHAPES[kind][name]
        is_new = layer_of(name) in NEW_ROWS
        assert tensor.shape == ((NEW_ROWS[layer_of(name)], *old[1:]) if is_new else old)
        assert bool((tensor == 1).all()) is not is_new
        if is_new and name.endswith("bias"):
            assert not tensor.any()


@pytest.mark.parametrize(("kind", "layer"), STANDARD_DEVIATIONS)
def test_weights_spread_as_the_authors(kind: str, layer: str) -> None:
    state = with_new_head(checkpoint_of(kind), CLASSES).state
    (weight,) = (state[name] for name in state if layer_of(name) == layer and "weight" in name)
    wanted = STANDARD_DEVIATIONS[kind, layer]
    assert weight.std().item() == pytest.approx(wanted, rel=0.07)  # of 3,200 numbers and more


def test_a_new_head_is_the_same_every_time_and_leaves_the_callers_numbers_alone() -> None:
    torch.manual_seed(3)
    want = torch.rand(4)
    torch.manual_seed(3)
    first, second = (dict(with_new_head(checkpoint_of("detector"), 3).state) for _ in range(2))
    assert_close(first, second, rtol=0, atol=0)
    assert_close(torch.rand(4), want, rtol=0, atol=0)


def test_a_new_head_is_told_and_has_numbered_classes(caplog: pytest.LogCaptureFixture) -> None:
    checkpoint = with_new_head(checkpoint_of("classifier"), 2)
    assert checkpoint.classes == ClassTable(("class 0", "class 1"))
    assert caplog.messages == [
        "old.pth has other classes: the head for 2 is new and random, and has to be trained."
    ]

"""A head for other classes than a checkpoint's, to be trained.

Source: the initialisation of LMMMEng/OverLoCK, mmsegmentation 0.30 and mmdetection 2.28.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from model.checkpoints.checkpoint import Checkpoint
from model.checkpoints.class_table import ClassTable

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _ClassLayer:
    """A layer with rows for each class.

    Attributes:
        pattern: of its name.
        rows: number of rows for a number of classes.
        initialise: fills its weight; the bias is 0.
    """

    pattern: str
    rows: Callable[[int], int]
    initialise: Callable[[Tensor], object]


def _normal(std: float) -> Callable[[Tensor], object]:
    return lambda weight: nn.init.normal_(weight, std=std)


CLASSIFIER = (
    _ClassLayer(
        r"(overview_)?head\.classify",
        lambda classes: classes,
        lambda weight: nn.init.trunc_normal_(weight, std=0.02),
    ),
)
SEGMENTER = (_ClassLayer(r"head\.classify", lambda classes: classes, _normal(0.01)),)
CASCADE = (
    _ClassLayer(
        r"roi_heads\.box_heads\.\d+\.classify",
        lambda classes: classes + 1,  # the background
        _normal(0.01),
    ),
    _ClassLayer(
        r"roi_heads\.mask_heads\.\d+\.classify",
        lambda classes: classes,
        lambda weight: nn.init.kaiming_normal_(weight, mode="fan_out"),
    ),
)
DETECTOR = (
    *CASCADE,
    _ClassLayer(r"roi_heads\.box_heads\.\d+\.regress", lambda classes: 4 * classes, _normal(0.001)),
)


def with_new_head(checkpoint: Checkpoint, num_classes: int) -> Checkpoint:
    """Replace the layers that have rows for each class by random ones, the same every time.

    Args:
        checkpoint: of a network in its trained form, for any number of classes.
        num_classes: of the new layers.

    Returns:
        The checkpoint with new entries, and numbers for names of its classes.
    """
    logger.warning(
        "%s has other classes: the head for %d is new and random, and has to be trained.",
        checkpoint.path,
        num_classes,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = checkpoint.state | dict(_new_entries(checkpoint.state, num_classes))
    labels = tuple(f"class {number}" for number in range(num_classes))
    return replace(checkpoint, state=state, classes=ClassTable(labels))


def _new_entries(state: dict[str, Tensor], num_classes: int) -> Iterator[tuple[str, Tensor]]:
    for name, old in state.items():
        for layer in _class_layers(state):
            if re.fullmatch(rf"{layer.pattern}\.(weight|bias)", name):
                new = torch.zeros(layer.rows(num_classes), *old.shape[1:])
                if name.endswith("weight"):
                    layer.initialise(new)
                yield name, new


def _class_layers(state: dict[str, Tensor]) -> tuple[_ClassLayer, ...]:
    if "roi_heads.box_heads.1.classify.weight" in state:
        return CASCADE
    if "roi_heads.box_heads.0.classify.weight" in state:
        return DETECTOR
    return SEGMENTER if "head.bottleneck.conv.weight" in state else CLASSIFIER

"""The classifier's training: its losses, and what its maps are measured by."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from model.config import BACKBONES
from model.demo.classification import ClassificationTask, points_at_shape
from model.demo.loop import network_input
from model.demo.stream import SceneBatch, draw_batch
from model.demo.supervision import DenselySupervised, SupervisedOutputs
from model.heads.classifier import ExplainedLogits, ImageClassifier, OverviewHead

TASK = ClassificationTask()


@pytest.fixture(scope="module")
def supervised() -> DenselySupervised:
    return cast("DenselySupervised", TASK.create_network().train())


def test_what_is_kept_has_an_overview_head(supervised: DenselySupervised) -> None:
    kept = TASK.trained(supervised)
    assert isinstance(kept, ImageClassifier)
    assert isinstance(kept.overview_head, OverviewHead)
    assert not any(name.startswith("network.") for name in kept.state_dict())


def test_the_overviews_loss_counts_as_in_the_authors_training(
    supervised: DenselySupervised,
) -> None:
    batch = draw_batch(0, 2, 96)
    outputs = SupervisedOutputs(*supervised(network_input(batch.images)))
    without = outputs._replace(overview_logits=torch.zeros_like(outputs.overview_logits))
    labels = torch.from_numpy(batch.labels)
    losses = [
        F.cross_entropy(each.overview_logits, labels, label_smoothing=TASK.label_smoothing)
        for each in (outputs, without)
    ]
    difference = TASK.loss(outputs, batch) - TASK.loss(without, batch)
    torch.testing.assert_close(difference, 0.4 * (losses[0] - losses[1]))


def test_every_trained_parameter_has_a_gradient(supervised: DenselySupervised) -> None:
    batch = draw_batch(0, 2, 96)
    TASK.loss(supervised(network_input(batch.images)), batch).backward()
    assert [name for name, each in supervised.named_parameters() if each.grad is None] == []


def test_a_map_points_at_the_shape_if_its_highest_cells_middle_is_on_it() -> None:
    network = ImageClassifier(BACKBONES["nano"], 10)
    with torch.no_grad():
        network.head.classify.weight.zero_()
        network.head.classify.weight[3, 0] = 1.0  # the map of class 3 is the first feature
    label_maps = np.zeros((2, 64, 64), np.uint8)
    label_maps[:, 16, 48] = 1 + 3  # the middle of the cell in row 0, column 1
    label_maps[:, 48, 16] = 1 + 5
    batch = SceneBatch(np.zeros((2, 64, 64, 3), np.uint8), np.array([3, 3]), label_maps)
    focus = torch.zeros(2, 256, 2, 2)
    focus[0, 0, 0, 1] = focus[1, 0, 1, 0] = 1.0
    explained = ExplainedLogits(torch.zeros(2, 10), focus, None)
    assert points_at_shape(network, explained, batch) == {"focus": [True, False]}

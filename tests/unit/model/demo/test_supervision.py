from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from model.demo.supervision import DenselySupervised, dense_loss
from model.heads.classifier import ImageClassifier
from model.zoo import create_model


def classifier() -> ImageClassifier:
    network = create_model("demo", weights="random", num_classes=10, fused=False)
    assert isinstance(network, ImageClassifier)
    return network


def test_the_classifier_inside_answers_as_without_training_heads() -> None:
    network = classifier()
    images = torch.randn(2, 3, 96, 64)
    logits, eighth, sixteenth = DenselySupervised(network, 11)(images)
    torch.testing.assert_close(logits, network(images))
    assert eighth.shape == (2, 11, 12, 8)
    assert sixteenth.shape == (2, 11, 6, 4)


def test_training_heads_are_no_part_of_the_saved_network() -> None:
    network = classifier()
    names = set(network.state_dict())
    assert set(DenselySupervised(network, 11).network.state_dict()) == names


def test_each_cell_is_compared_with_the_pixel_at_its_middle() -> None:
    label_maps = torch.zeros(1, 8, 8, dtype=torch.int64)
    label_maps[0, 2, 6] = 1  # the middle of the cell in row 0, column 1 of a map at 1/4
    logits = torch.zeros(1, 2, 2, 2)
    logits[0, 1, 0, 1] = 3.0
    target = torch.tensor([[[0, 1], [0, 0]]])
    assert dense_loss([logits], label_maps).item() == pytest.approx(
        F.cross_entropy(logits, target).item()
    )


def test_the_maps_losses_add_up() -> None:
    label_maps = torch.randint(0, 3, (2, 16, 16))
    first, second = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 2, 2)
    total = dense_loss([first, second], label_maps)
    torch.testing.assert_close(
        total, dense_loss([first], label_maps) + dense_loss([second], label_maps)
    )

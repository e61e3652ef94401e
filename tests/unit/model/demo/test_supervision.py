from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from model.demo.supervision import DenselySupervised, dense_loss, pointing_loss
from model.heads.classifier import ImageClassifier
from model.zoo import create_model


def classifier() -> ImageClassifier:
    network = create_model("demo", weights="random", num_classes=10, fused=False)
    assert isinstance(network, ImageClassifier)
    return network


def test_the_classifier_inside_answers_as_without_training_heads() -> None:
    network = classifier().train()
    images = torch.randn(2, 3, 96, 64)
    found = DenselySupervised(network, 11)(images)
    logits, overview_logits = network(images)
    torch.testing.assert_close(found.logits, logits)
    torch.testing.assert_close(found.overview_logits, overview_logits)
    torch.testing.assert_close(found.class_maps.mean(dim=(2, 3)), logits)
    assert found.stage2_segments.shape == (2, 11, 12, 8)
    assert found.focus3_segments.shape == (2, 11, 6, 4)
    assert found.class_maps.shape == (2, 10, 3, 2)


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


def test_a_map_is_to_point_at_the_cells_whose_middle_is_on_the_shape() -> None:
    label_maps = torch.zeros(2, 8, 8, dtype=torch.int64)
    label_maps[0, 2, 6] = 1 + 4  # the middle of the cell in row 0, column 1
    label_maps[0, 6, 2] = 1 + 7  # another shape
    label_maps[1, 0, 0] = 1 + 2  # covers no middle, and does not count
    maps = torch.zeros(2, 10, 2, 2)
    maps[0, 4, 0, 1] = 2.0
    loss = pointing_loss(maps, torch.tensor([4, 2]), label_maps)
    share = maps[0, 4].flatten().softmax(dim=0)[1]
    assert loss.item() == pytest.approx(-share.log().item())


def test_scenes_without_a_covered_middle_have_no_pointing_loss() -> None:
    maps = torch.zeros(1, 10, 2, 2, requires_grad=True)
    loss = pointing_loss(maps, torch.tensor([0]), torch.zeros(1, 8, 8, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0
    assert maps.grad is not None
    assert not maps.grad.any()

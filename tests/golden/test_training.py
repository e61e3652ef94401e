"""One training step gives the authors' numbers.

``grads.npz`` holds outputs, norms of gradients and the batch norms' buffers of the authors' public
network in float32 on a CPU, with the weights of ``golden.fill`` and no drop path.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from model.checkpoints.official_names import official_naming_of
from model.heads.classifier import ImageClassifier
from model.zoo import create_model
from support.checkpoints import official_state
from support.fill import hashed, image, model_input

WANT = dict(np.load(Path(__file__).parent / "grads.npz"))
TOLERANCE = 1e-4  # relative: float32, summed in another order than the authors'
ROUNDING = 1e-4
"""Norms of the authors' gradients of a bias in front of a batch norm in training: it has none."""

IMAGES = torch.from_numpy(model_input([image(f"grads-{i}", 96, 96) for i in range(4)]))
LOSS_WEIGHTS = torch.from_numpy(hashed("grads-weights", (4, 1000))).float()
OVERVIEW_WEIGHT = 0.4


@pytest.fixture
def network(tmp_path: Path) -> ImageClassifier:
    """XT in its trained form, from an official file."""
    path = tmp_path / "overlock_xt.pth"
    torch.save(official_state("overlock_xt"), path)
    network = create_model("overlock_xt", weights=path, fused=False)
    path.unlink()
    assert isinstance(network, ImageClassifier)
    return network


@pytest.mark.slow
def test_gradients_in_evaluation_mode_are_the_authors(network: ImageClassifier) -> None:
    logits = network(IMAGES)
    _assert_output(logits, "eval|main")
    (logits * LOSS_WEIGHTS).sum().backward()
    _assert_gradients(network, "eval")


@pytest.mark.slow
def test_a_training_step_is_the_authors(network: ImageClassifier) -> None:
    # float64: in float32 one norm of a thousand is 1.06e-4 away, and the biases are rounding too.
    logits, overview_logits = network.double().train()(IMAGES.double())
    _assert_output(logits, "train|main")
    _assert_output(overview_logits, "train|aux")
    loss = (logits * LOSS_WEIGHTS).sum() + OVERVIEW_WEIGHT * (overview_logits * LOSS_WEIGHTS).sum()
    loss.backward()
    _assert_gradients(network, "train")

    official_name = official_naming_of(network.state_dict())
    means = {
        official_name(name): buffer.mean()
        for name, buffer in network.named_buffers()
        if buffer.is_floating_point()
    }
    names = WANT["train|buffer_names"].tolist()
    assert means.keys() == {*names}
    got = np.array([means[name].item() for name in names])
    np.testing.assert_allclose(got, WANT["train|buffer_means"], rtol=TOLERANCE, atol=1e-6)


def _assert_output(got: Tensor, key: str) -> None:
    want = torch.from_numpy(WANT[key])
    assert_close(got.detach().float(), want, rtol=0, atol=TOLERANCE * want.abs().max().item())


def _assert_gradients(network: ImageClassifier, mode: str) -> None:
    official_name = official_naming_of(network.state_dict())
    norms = {
        official_name(name): parameter.grad.double().norm().item()
        for name, parameter in network.named_parameters()
        if parameter.grad is not None
    }
    names = WANT[f"{mode}|names"].tolist()
    assert norms.keys() == {*names}
    got = np.array([norms[name] for name in names])
    np.testing.assert_allclose(got, WANT[f"{mode}|norms"], rtol=TOLERANCE, atol=ROUNDING)

"""Networks of one's own shape, stated in a models file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from model.architectures import Network
from model.config import BackboneConfig
from model.zoo import create_model
from service.engine.batches import Input
from service.engine.runner import Runner
from service.settings import load_settings, specs_of

SIZES = (1, 2)

OWN = BackboneConfig(
    (1, 1, 1, 1), (1, 1), (8, 16, 24, 24), (1, 2), kernel_sizes=(19, 5, 9, 7), small_kernel=3
)


def own_runner(folder: Path, channels: int) -> tuple[Runner, Network]:
    """Return the engine of a classifier on a backbone of one's own, and the network."""
    network = create_model(
        dataclasses.replace(OWN, in_channels=channels),
        weights="random",
        num_classes=3,
        fused=False,
    )
    torch.save(network.state_dict(), folder / "own.pth")
    (folder / "models.toml").write_text(
        '[own]\nweights = "own.pth"\ninput_size = 75\n[own.backbone]\nsmall_kernel = 3\n'
    )
    settings = load_settings({"models_file": str(folder / "models.toml"), "dtype": "float32"})
    return Runner(settings, specs_of(settings), "cpu", SIZES), network


def test_a_grey_backbone_of_ones_own_is_answered_as_the_network(tmp_path: Path) -> None:
    running, network = own_runner(tmp_path, channels=1)
    (model,) = running.models
    assert (model.architecture, model.input.height) == ("classifier", 75)
    assert (model.input.mean, model.input.std) == ((0.449,), (0.226,))
    picture = np.random.default_rng(3).integers(0, 256, (75, 75, 3), np.uint8)
    (arrays,) = running.run(model.operation, [Input(picture, (75, 75))], (75, 75), 1).arrays
    grey = (torch.from_numpy(picture[..., 0]).double() / 255 - 0.449) / 0.226
    with torch.inference_mode():
        (want,) = network.double()(grey[None, None])
    assert arrays is not None
    assert (torch.from_numpy(arrays[0]) - want).abs().max() < 1e-5 * want.abs().max()


def test_an_input_of_other_channels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\[own\] weights: the network's input has 4 channels"):
        own_runner(tmp_path, channels=4)

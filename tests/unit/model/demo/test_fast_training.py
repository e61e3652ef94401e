from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from model.demo.fast_training import speed_up_training
from model.lowering.folding import merge_branches
from model.zoo import create_model


@pytest.fixture(scope="module")
def networks() -> tuple[nn.Module, nn.Module]:
    plain = merge_branches(create_model("demo", weights="random", num_classes=10, fused=False))
    plain.double().train().requires_grad_(requires_grad=True)
    fast = copy.deepcopy(plain)
    speed_up_training(fast)
    return plain, fast


def test_parameter_names_stay(networks: tuple[nn.Module, nn.Module]) -> None:
    plain, fast = networks
    assert list(plain.state_dict()) == list(fast.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width"), [(64, 96), (224, 224)])
def test_outputs_and_gradients_stay(
    networks: tuple[nn.Module, nn.Module], height: int, width: int
) -> None:
    images = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0)).double()
    outputs, gradients = [], []
    for network in networks:
        network.zero_grad()
        logits, _ = network(images)
        logits.square().sum().backward()
        outputs.append(logits.detach())
        gradients.append([parameter.grad for parameter in network.parameters()])
    # float64: what differs is only the order of sums.
    torch.testing.assert_close(*outputs, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-9)

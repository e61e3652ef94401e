"""Networks of one input channel."""

from __future__ import annotations

from torch import nn

from model.architectures import Network
from model.backbone.layers import ConvNorm


def as_grey(network: Network) -> Network:
    """Give a network that is not folded a grey input: the sum of what it does to red and blue."""
    first = network.backbone.stem.layers[0]
    assert isinstance(first, ConvNorm)
    conv = first.conv
    assert isinstance(conv, nn.Conv2d)
    grey = nn.Conv2d(1, conv.out_channels, 3, stride=2, padding=1, bias=False)
    grey.weight = nn.Parameter(conv.weight[:, ::2].sum(dim=1, keepdim=True), requires_grad=False)
    first.conv = grey
    return network

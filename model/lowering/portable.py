"""A folded network in operators that every runtime has, for export."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from model.backbone.context_mixing import FoldedContextMixing
from model.kernels.context_mixing_rows import context_mixing_rows

Network = TypeVar("Network", bound=nn.Module)


def make_portable(network: Network) -> Network:
    """Replace what no exchange format has, in place.

    That is the aggregation of ContMix alone; norms and branches are folded already.

    Args:
        network: folded, of float32.

    Raises:
        ValueError: if the network is not folded.
    """
    mixings = [part for part in network.modules() if isinstance(part, FoldedContextMixing)]
    if not mixings:
        raise ValueError("Only a folded network can be made portable; call fold() first.")
    for mixing in mixings:
        mixing.aggregate = context_mixing_rows
    return network

"""Exact rewrites of a trained network into its inference form.

Norms, residual depthwise convolutions and the query scale fold into convolutions, the map from
affinity to kernel logits folds into the keys, and the position bias becomes a table that is
computed once. All are exact up to float32 rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar, runtime_checkable

from torch import nn

from model.backbone.reparam import DilatedReparam

Network = TypeVar("Network", bound=nn.Module)


@runtime_checkable
class Foldable(Protocol):
    """A module with an equivalent, cheaper form for inference."""

    def folded(self) -> nn.Module:
        """Return the inference form; inner modules are folded already."""


def merge_branches(network: Network) -> Network:
    """Merge the dilated branches of every large kernel, in place; norms stay.

    The result has the form of the authors' ``*_reparam`` checkpoints.
    """
    return _replace_parts(
        network, lambda part: part.merged() if isinstance(part, DilatedReparam) else part
    )


def fold(network: Network) -> Network:
    """Rewrite a network in evaluation mode into its inference form, in place.

    Raises:
        ValueError: if the network is in training mode, whose norms use the batch's statistics.
    """
    if network.training:
        raise ValueError("Only a network in evaluation mode can be folded; call eval() first.")
    merge_branches(network)
    return _replace_parts(
        network, lambda part: part.folded() if isinstance(part, Foldable) else part
    )


def _replace_parts(network: Network, replacement: Callable[[nn.Module], nn.Module]) -> Network:
    """Replace every module below ``network`` in place, inner ones first."""
    for name, part in network.named_children():
        new_part = replacement(_replace_parts(part, replacement))
        if new_part is not part:
            setattr(network, name, new_part)
    return network

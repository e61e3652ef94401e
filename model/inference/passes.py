"""A network's other passes, embeddings and class maps, as networks that a predictor runs.

Each gets a predictor of its own on the same network, which holds its recordings; weights, kernels'
choices and compiled blocks are the network's.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from model.heads.classifier import ImageClassifier
from model.heads.embedding import Embeddable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BEST = -1
"""Asks for the class of the next best logit instead of a class id."""


class EmbeddingNetwork(nn.Module):
    """The embeddings of all layers side by side: (B, 3, H, W) -> (B, D), float32.

    All of them, since they cost next to nothing: a batch holds requests for any layers.

    Args:
        network: in any form.

    Attributes:
        layers: the columns of each layer, the default one first.
    """

    def __init__(self, network: Embeddable) -> None:
        super().__init__()
        self.network = network
        ends = accumulate(network.layer_dimensions.values(), initial=0)
        columns = (slice(start, end) for start, end in pairwise(ends))
        self.layers = dict(zip(network.layer_dimensions, columns, strict=True))
        self.train(network.training)

    def forward(self, images: Tensor) -> Tensor:
        """Embed."""
        means = self.network.layer_means(images)
        return torch.cat([means[layer] for layer in self.layers], dim=1)


class ExplainingNetwork(nn.Module):
    """A classifier's logits, and what its class maps are made of.

    ``ImageClassifier.explain`` as a tuple without None: (B, classes), (B, C_hidden, h, w), and
    (B, C4, h, w) of an overview head. Maps are made behind the pass, of the classes that a request
    asks for.

    Args:
        network: in any form.
    """

    def __init__(self, network: ImageClassifier) -> None:
        super().__init__()
        self.network = network
        self.train(network.training)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Classify and explain."""
        return tuple(each for each in self.network.explain(images) if each is not None)

    def chosen_maps(self, outputs: tuple[Tensor, ...], wanted: Tensor) -> tuple[Tensor, ...]:
        """Make the class maps of a batch, without waiting for the device.

        Args:
            outputs: of ``forward``.
            wanted: class ids, or ``BEST``, (B, k) int64; column i stands for the class of the
                i-th highest logit where it is ``BEST``.

        Returns:
            The ids, (B, k) int64, and the maps of the head, and of the overview head if there is
            one, (B, k, h, w).
        """
        logits, focus, *overview = outputs
        best = logits.topk(wanted.shape[1], dim=1).indices
        class_ids = torch.where(wanted == BEST, best, wanted)
        maps = self.network.maps_of(focus, overview[0] if overview else None, class_ids)
        return (class_ids, *(each for each in maps if each is not None))


@dataclass(frozen=True)
class Explanation:
    """What an image's classes rest on.

    Attributes:
        logits: of all classes, (classes,).
        class_ids: of the maps, (k,).
        focus: class maps of the head, (k, h, w).
        overview: class maps of the overview head, (k, h, w); None without one.
    """

    logits: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    focus: NDArray[np.float32]
    overview: NDArray[np.float32] | None = None

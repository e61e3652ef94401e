"""A classifier on a CPU that replays its passes on small batches, as CUDA graphs do on a GPU."""

from __future__ import annotations

import logging
import threading
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from model.heads.classifier import ImageClassifier
from model.kernels.cpu.dense_conv import DenseConv, is_native
from model.kernels.cpu.recording import (
    PassMemory,
    PassMemoryError,
    Recording,
    UnrecordedOperatorError,
)

MAX_PIXELS = 16 * 224 * 224
"""Largest batch that is recorded: the larger it is, the less a replay gains."""

MAX_BYTES = 192 * 2**20
"""Most memory of a network's recordings."""

Key = tuple[torch.Size, torch.dtype]
"""Shape and dtype of images."""

logger = logging.getLogger(__name__)


class RecordedNetwork(nn.Module):
    """Computes what the network does, to the bit: (B, 3, H, W) -> (B, classes).

    A shape's first pass is recorded, the others are replays, one at a time. In training mode, with
    gradients, with hooks on the network, and for large batches the network runs itself.

    A shape that exceeds the memory is given up, with all larger ones; the others stay.

    Args:
        network: lowered for the CPU; neither its parts nor its weights are replaced afterwards.
    """

    def __init__(self, network: ImageClassifier) -> None:
        super().__init__()
        self.network = network
        self._recordings: dict[Key, Recording] = {}
        self._memory = PassMemory(MAX_BYTES)
        self._max_pixels = MAX_PIXELS
        self._lock = threading.Lock()
        self._hooks = [
            hooks
            for part in network.modules()
            for hooks in (part._forward_hooks, part._forward_pre_hooks)
        ]
        self.train(network.training)

    @property
    def held_bytes(self) -> int:
        """Memory of the recordings."""
        own = sum(each.held_bytes for each in self._recordings.values())
        return self._memory.held_bytes + own

    @property
    def recorded_shapes(self) -> tuple[torch.Size, ...]:
        """Shapes of the inputs that are replayed."""
        return tuple(shape for shape, _ in self._recordings)

    def forward(self, images: Tensor) -> Tensor:
        """Classify."""
        if self.training or torch.is_grad_enabled() or any(self._hooks):
            return cast("Tensor", self.network(images))
        key = (images.shape, images.dtype)
        with self._lock:
            recording = self._recordings.get(key)
            if recording is not None:
                return recording.replay(images)
            if _pixels(images) <= self._max_pixels:
                return self._record(key, images)
        return cast("Tensor", self.network(images))

    def _record(self, key: Key, images: Tensor) -> Tensor:
        try:
            self._recordings[key] = Recording(self.network, images, self._memory)
        except UnrecordedOperatorError as error:
            self._max_pixels = 0
            logger.warning("The network's passes are not recorded: they use %s.", error)
        except PassMemoryError:
            self._give_up(images)
        else:
            output = self._recordings[key].output
            if self.held_bytes > MAX_BYTES:
                del self._recordings[key]
                self._give_up(images)
                self._memory.trim()
            return output
        # Behind the handlers, whose errors hold the memory of what has failed.
        self._memory.trim()
        return cast("Tensor", self.network(images))

    def _give_up(self, images: Tensor) -> None:
        self._max_pixels = _pixels(images) - 1
        logger.info("Batches of %s and more pixels are not recorded.", _pixels(images))


def _pixels(images: Tensor) -> int:
    return len(images) * images.shape[2] * images.shape[3]


Network = TypeVar("Network", bound=nn.Module)


def recorded(network: Network) -> Network | RecordedNetwork:
    """Return a network that replays its passes, or the network itself if it has no such form.

    That form is for classifiers whose dense convolutions are our own kernel.
    """
    convs = [part for part in network.modules() if isinstance(part, DenseConv)]
    if isinstance(network, ImageClassifier) and convs and is_native(convs[0].dtype):
        return RecordedNetwork(network)
    return network

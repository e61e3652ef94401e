"""The measured networks as they are served, and images, with contents that need no file.

Nothing is loaded by ``model.zoo``, so packages that only checkpoints need may be missing.
"""

from __future__ import annotations

import copy
from functools import lru_cache, partial
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from benchmarks.on_gpu.bench import Bench
from model.backbone.overlock import OverLoCK
from model.config import BACKBONES, DETECTORS, SEGMENTERS
from model.heads.classifier import ImageClassifier
from model.heads.mask_rcnn import MaskRCNN
from model.heads.upernet import UPerNet
from model.kernels.gpu.autotune import Autotuner, Decision
from model.kernels.gpu.tuning import tune
from model.lowering.folding import fold
from model.lowering.gpu import lower_for_gpu

if TYPE_CHECKING:
    from numpy.typing import NDArray

GAINS = {"box_heads.0.classify": 6.0, "box_heads.0.regress": 0.5, "mask_heads.0.classify": 4.0}
"""Factors on layers' weights with which a random detector is confident enough to find objects."""


@lru_cache(maxsize=2)
def trained(name: str) -> nn.Module:
    """Build a network as it is trained, in evaluation mode, random but well-behaved weights.

    Cached by name: copy it before you change it.
    """
    network: nn.Module
    if name in SEGMENTERS:
        segmenter = SEGMENTERS[name]
        network = UPerNet(segmenter.backbone, segmenter.head_channels, 150)
    elif name in DETECTORS:
        network = MaskRCNN(DETECTORS[name].backbone, 80, cascade=DETECTORS[name].cascade)
    elif name.startswith("upernet_"):
        network = UPerNet(BACKBONES[name.removeprefix("upernet_")], 48, 11)
    elif name.startswith("mask_rcnn_"):
        network = MaskRCNN(BACKBONES[name.removeprefix("mask_rcnn_")], 10, cascade=False)
    else:
        network = ImageClassifier(BACKBONES[name], 1000)
    _fill(network)
    return network.eval().requires_grad_(requires_grad=False)


def _fill(network: nn.Module) -> None:
    """Keep every layer's output near one; no norm, bias or scale stays at its identity."""
    generator = torch.Generator().manual_seed(0)

    def uniform(entry: Tensor) -> Tensor:
        return torch.rand(entry.shape, generator=generator) * 2 - 1

    with torch.no_grad():
        for name, entry in network.state_dict().items():
            owner, _, leaf = name.rpartition(".")
            if leaf == "num_batches_tracked":
                continue
            if leaf == "running_var" or (leaf == "weight" and entry.ndim == 1):
                value = 1 + 0.3 * uniform(entry)
            elif leaf in {"gamma", "beta"}:
                value = 0.3 * uniform(entry)
            elif entry.ndim == 1:
                value = 0.1 * uniform(entry)
            elif entry.ndim == 4 and entry.shape[1:] == (1, 1, 1):  # a layer scale
                value = 0.6 + 0.3 * uniform(entry)
            elif leaf.endswith("position_bias"):
                value = uniform(entry)
            else:
                gain = next((gain for part, gain in GAINS.items() if owner.endswith(part)), 1.0)
                value = gain * uniform(entry) * (3 / entry[0].numel()) ** 0.5
            entry.copy_(value)


def folded(network: nn.Module, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """Fold a copy of a trained network, on a device, in channels_last."""
    network = fold(copy.deepcopy(network)).to(device, dtype)
    convert_conv2d_weight_memory_format(network, torch.channels_last)
    return network


def images_of(
    device: torch.device, batch: int, size: tuple[int, int], dtype: torch.dtype
) -> Tensor:
    """Make normalised images of noise, (B, 3, H, W) in channels_last, the same at every call."""
    generator = torch.Generator().manual_seed(batch)
    images = torch.randn(batch, 3, *size, generator=generator).to(device, dtype)
    return images.contiguous(memory_format=torch.channels_last)


def noise_images(count: int, size: tuple[int, int]) -> list[NDArray[np.uint8]]:
    """Draw images of noise, (h, w, 3) each; fewer of a size are the first of more."""
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (*size, 3), np.uint8) for _ in range(count)]


def with_measured_kernels(
    bench: Bench, network: nn.Module, images: Tensor
) -> tuple[nn.Module, list[Decision]]:
    """Lower a folded network for GPUs, its kernels measured for this batch."""
    autotuner = Autotuner()
    lower_for_gpu(network, autotuner)
    backbone = cast("OverLoCK", network.backbone)
    forward = backbone.dense_features if backbone.dense else backbone
    run = partial(torch.inference_mode()(forward), images)
    decisions = tune(run, autotuner, len(images), lambda run: bench.seconds([run]))
    return network, decisions

"""Lowering of a folded network for GPUs: blocks of fewer kernels, chosen by measuring."""

from __future__ import annotations

from torch import nn

from model.backbone.blocks import BasicBlock
from model.backbone.overlock import FocusStage, OverLoCK
from model.heads.classifier import ClassifierHead, OverviewHead
from model.kernels.gpu.autotune import Autotuner
from model.lowering.gpu_blocks import GpuBasicBlock, GpuFocusStage
from model.lowering.pixel_product import PixelProduct

PRODUCT_PARENTS = (OverLoCK, ClassifierHead, OverviewHead)
"""Modules whose own 1x1 convolutions become matrix products."""


def lower_for_gpu(network: nn.Module, autotuner: Autotuner) -> None:
    """Lower a network in place; lowering it again changes nothing.

    The new modules run on any device, on PyTorch's operators where our kernels do not run.

    Args:
        network: folded, and already on its final device and in its final dtype, on which the
            layout of the taps depends.
        autotuner: the fastest implementations; it may be filled later.
    """
    for name, part in network.named_children():
        match part:
            case BasicBlock():
                setattr(network, name, GpuBasicBlock(part, autotuner))
            case FocusStage():
                setattr(network, name, GpuFocusStage(part, autotuner))
            case nn.Conv2d(kernel_size=(1, 1)) if isinstance(network, PRODUCT_PARENTS):
                setattr(network, name, PixelProduct(part))
            case _:
                lower_for_gpu(part, autotuner)

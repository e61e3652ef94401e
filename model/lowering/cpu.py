"""Lowering of a folded network for CPUs: our C kernels, and convolutions with packed weights."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from model.backbone.blocks import BasicBlock, DynamicBlock
from model.backbone.layers import LayerNorm2d
from model.backbone.overlock import Stem
from model.heads.classifier import ClassifierHead, OverviewHead
from model.heads.roi_heads import MaskHead
from model.kernels.cpu.dense_conv import DenseConv, dense_conv, dense_conv_unsupported_reason
from model.kernels.cpu.packed_conv import PackedConv
from model.lowering.cpu_blocks import (
    NativeBasicBlock,
    NativeDynamicBlock,
    NativeLayerNorm,
    NativeStem,
)
from model.lowering.pixel_product import PixelProduct

Network = TypeVar("Network", bound=nn.Module)

NATIVE_DTYPES = (torch.float32, torch.bfloat16)


def lowering_unsupported_reason(dtype: torch.dtype) -> str | None:
    """Return why a network cannot be lowered in a dtype on this machine, or None if it can."""
    if dtype not in NATIVE_DTYPES:
        return f"there are no kernels for {dtype}"
    return dense_conv_unsupported_reason(dtype)


def lower_for_cpu(network: Network, dtype: torch.dtype) -> Network:
    """Lower a folded float32 network on the CPU, in place; it computes in ``dtype`` afterwards.

    A lowered network keeps its weights outside its parameters: it can neither be trained, moved nor
    saved. Lowering it again changes nothing.

    Raises:
        ValueError: if lowered networks do not run here, or it is lowered in another dtype already.
    """
    for part in network.modules():
        if isinstance(part, DenseConv | PackedConv) and part.dtype != dtype:
            raise ValueError(f"The network is lowered in {part.dtype} already.")
    reason = lowering_unsupported_reason(dtype)
    if reason is not None:
        raise ValueError(f"The network cannot be lowered for this CPU: {reason}.")
    _rewrite(network, dtype)
    return network.to(dtype)


def _rewrite(network: nn.Module, dtype: torch.dtype) -> None:
    for name, part in network.named_children():
        if isinstance(network, ClassifierHead | OverviewHead) and part is network.classify:
            native = _with_rows(part)
        else:
            native = _lowered(part, dtype)
        if native is None:
            _rewrite(part, dtype)
        else:
            setattr(network, name, native.eval())


def _with_rows(classify: nn.Module) -> nn.Module | None:
    # Not packed: a class map picks rows of the weight, and a product of pooled maps is as fast.
    return PixelProduct(classify) if isinstance(classify, nn.Conv2d) else None


def _lowered(part: nn.Module, dtype: torch.dtype) -> nn.Module | None:
    match part:
        case Stem():
            return NativeStem(part, dtype)
        case BasicBlock():
            return NativeBasicBlock(part, dtype)
        case DynamicBlock():
            return NativeDynamicBlock(part, dtype)
        case LayerNorm2d():
            return NativeLayerNorm(part)
        case MaskHead():  # its last convolution stays: it picks rows of the weight by label
            for index, conv in enumerate(part.convs):
                if isinstance(conv, nn.Conv2d):
                    part.convs[index] = dense_conv(conv, dtype)
            return part
        case nn.Conv2d() if part.groups == 1:
            return dense_conv(part, dtype)
        case _:
            return None

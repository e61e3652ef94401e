"""Every key of an official checkpoint of any variant, written from the authors' description."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from model.config import BackboneConfig
from support.fill import parameter

BRANCHES = {
    5: "3_1 3_2",
    7: "5_1 3_1 3_2 3_3",
    9: "5_1 7_1 5_2 3_3 3_4",
    11: "5_1 7_1 5_2 3_3 3_4 3_5",
    13: "5_1 7_1 7_2 3_3 3_4 3_5",
    15: "5_1 7_1 7_2 3_3 3_5 3_7",
    17: "5_1 7_1 9_2 3_4 3_5 3_7",
    19: "5_1 7_1 9_1 9_2 3_4 3_5 3_7",
}
"""Size and dilation of the branches beside a large kernel."""

Shapes = dict[str, tuple[int, ...]]


def _conv(key: str, out: int, into: int, size: int = 1, *, bias: bool = True) -> Shapes:
    return {f"{key}.weight": (out, into, size, size)} | ({f"{key}.bias": (out,)} if bias else {})


def _norm(key: str, channels: int) -> Shapes:
    return {f"{key}.weight": (channels,), f"{key}.bias": (channels,)}


def _batch_norm(key: str, channels: int) -> Shapes:
    running: Shapes = {f"{key}.running_{what}": (channels,) for what in ("mean", "var")}
    return _norm(key, channels) | running | {f"{key}.num_batches_tracked": ()}


def _scale(key: str, channels: int) -> Shapes:
    return {f"{key}.weight": (channels, 1, 1, 1), f"{key}.bias": (channels,)}


def _grn(key: str, channels: int) -> Shapes:
    return {f"{key}.gamma": (1, channels, 1, 1), f"{key}.beta": (1, channels, 1, 1)}


def _downsample(key: str, into: int, out: int) -> Shapes:
    return _conv(f"{key}.0", out, into, 3, bias=False) | _batch_norm(f"{key}.1", out)


def _large(key: str, channels: int, size: int) -> Shapes:
    shapes = _conv(f"{key}.lk_origin", channels, 1, size, bias=False)
    shapes |= _batch_norm(f"{key}.origin_bn", channels)
    for branch in BRANCHES[size].split():
        shapes |= _conv(f"{key}.dil_conv_k{branch}", channels, 1, int(branch[0]), bias=False)
        shapes |= _batch_norm(f"{key}.dil_bn_k{branch}", channels)
    return shapes


def _excite(key: str, channels: int) -> Shapes:
    hidden = max(16, channels // 8)
    return _conv(f"{key}.proj.1", hidden, channels) | _conv(f"{key}.proj.3", channels, hidden)


def _feed_forward(key: str, first: int, channels: int, hidden: int) -> Shapes:
    return (
        _conv(f"{key}.{first}", hidden, channels)
        | _conv(f"{key}.{first + 2}", hidden, 1, 3)
        | _grn(f"{key}.{first + 3}", hidden)
        | _conv(f"{key}.{first + 4}", channels, hidden)
    )


def _ratio(ratios: float | tuple[float, ...], index: int) -> float:
    return ratios[index] if isinstance(ratios, tuple) else ratios


def official_shapes_of(config: BackboneConfig, num_classes: int) -> Shapes:
    """Return every key of an official checkpoint of the variant with its shape."""
    c, last = config.channels, config.channels[3]
    context = last // 4
    stem = [config.in_channels, c[0] // 2, c[0] // 2, c[0], c[0]]
    shapes: Shapes = {}
    for index, (into, out) in enumerate(pairwise(stem)):
        shapes |= _conv(f"patch_embed1.{3 * index}", out, into, 3, bias=False)
        shapes |= _batch_norm(f"patch_embed1.{3 * index + 1}", out)
    for stage in range(4):
        if stage:
            shapes |= _downsample(f"patch_embed{stage + 1}", c[stage - 1], c[stage])
        hidden = int(c[stage] * _ratio(config.mlp_ratio, stage))
        for index in range(config.depths[stage]):
            key = f"blocks{stage + 1}.{index}"
            shapes |= _conv(f"{key}.dwconv", c[stage], 1, 3) | _norm(f"{key}.proj.0", c[stage])
            shapes |= _large(f"{key}.proj.1", c[stage], config.kernel_sizes[stage])
            shapes |= _batch_norm(f"{key}.proj.2", c[stage]) | _excite(f"{key}.proj.3", c[stage])
            shapes |= _feed_forward(f"{key}.proj", 4, c[stage], hidden)
            shapes |= _scale(f"{key}.ls", c[stage]) if config.layer_scale[stage] else {}
    shapes |= _conv("high_level_proj", context, last)
    shapes |= _downsample("patch_embedx.x_proj", c[2], last)
    shapes |= _downsample("patch_embedx.h_proj", context, context)
    for stage in (2, 3):
        for index in range(config.focus_depths[stage - 2]):
            key = f"sub_blocks{stage + 1}.{index}"
            shapes |= _dynamic(key, config, stage, first=stage == 2 and index == 0)
    shapes |= _conv("head.0", config.head_channels, last + context, bias=False)
    shapes |= _batch_norm("head.1", config.head_channels)
    shapes |= _conv("head.4", num_classes, config.head_channels)
    return shapes | _batch_norm("aux_head.0", last) | _conv("aux_head.2", num_classes, last)


def _dynamic(key: str, config: BackboneConfig, stage: int, *, first: bool) -> Shapes:
    channels, context = config.channels[stage], config.channels[3] // 4
    joint, size, small = channels + context, config.kernel_sizes[stage], config.small_kernel
    heads = 2 * config.focus_heads[stage - 2]
    hidden = int(channels * _ratio(config.focus_mlp_ratio, stage - 2))
    shapes = {} if first else _scale(f"{key}.x_scale", context) | _scale(f"{key}.h_scale", context)
    shapes |= _conv(f"{key}.dwconv1", joint, 1, 3) | _norm(f"{key}.norm1", joint)
    shapes |= _conv(f"{key}.fusion.0", joint, 1, 3) | _batch_norm(f"{key}.fusion.1", joint)
    shapes |= _conv(f"{key}.fusion.3", channels, joint) | _grn(f"{key}.fusion.4", channels)
    shapes |= _conv(f"{key}.weight_query.0", channels // 2, channels, bias=False)
    shapes |= _batch_norm(f"{key}.weight_query.1", channels // 2)
    shapes |= _conv(f"{key}.weight_key.1", channels // 2, context, bias=False)
    shapes |= _batch_norm(f"{key}.weight_key.2", channels // 2)
    shapes |= _conv(f"{key}.weight_proj", small**2 + size**2, config.context_grid**2)
    for name in ("gate", "dyconv_proj"):
        shapes |= _conv(f"{key}.{name}.0", channels, channels, bias=False)
        shapes |= _batch_norm(f"{key}.{name}.1", channels)
    shapes |= _large(f"{key}.lepe.0", channels, size) | _batch_norm(f"{key}.lepe.1", channels)
    shapes |= _excite(f"{key}.se_layer", channels)
    shapes |= _batch_norm(f"{key}.proj.0", channels) | _conv(f"{key}.proj.1", joint, channels)
    shapes |= _conv(f"{key}.dwconv2", joint, 1, 3) | _norm(f"{key}.norm2", joint)
    shapes |= _feed_forward(f"{key}.mlp", 0, joint, hidden)
    if config.layer_scale[stage]:
        shapes |= _scale(f"{key}.ls1", joint) | _scale(f"{key}.ls2", joint)
    for name, side in (("rpb1", 2 * small - 1), ("rpb2", 2 * size - 1)):
        shapes[f"{key}.{name}"] = (heads, side, side)
    return shapes


def official_state_of(config: BackboneConfig, num_classes: int) -> dict[str, Tensor]:
    """Return an official checkpoint of the variant, with values from ``support.fill``."""
    shapes = official_shapes_of(config, num_classes)
    return {key: torch.from_numpy(parameter(key, shape)) for key, shape in shapes.items()}

"""OverLoCK's classifier in plain PyTorch under the authors' names: what every form has to equal.

Written from the paper and the authors' description, independently of ``model``: a state dict of
functions, no modules, nothing folded, windows gathered pixel by pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from model.config import BackboneConfig
from support.reference_shapes import BRANCHES


@dataclass(frozen=True)
class ReferenceOutputs:
    """What the reference computes.

    Logits (B, classes), the four dense maps, the layers' means (B, D), and the class maps of both
    heads (B, classes, h, w).
    """

    logits: Tensor
    overview_logits: Tensor
    maps: tuple[Tensor, Tensor, Tensor, Tensor]
    means: dict[str, Tensor]
    focus: Tensor
    overview: Tensor


class Reference:
    """The network in evaluation mode, float64.

    Args:
        state: an official checkpoint.
        config: its variant.
    """

    def __init__(self, state: dict[str, Tensor], config: BackboneConfig) -> None:
        self.state = {key: tensor.double() for key, tensor in state.items()}
        self.config = config

    def __call__(self, images: Tensor) -> ReferenceOutputs:
        """Run the whole network on (B, in_channels, H, W)."""
        x = images.double()
        for index in range(4):
            x = self.conv(x, f"patch_embed1.{3 * index}", stride=2 if index in {0, 2} else 1)
            x = self.batch_norm(x, f"patch_embed1.{3 * index + 1}")
            x = F.gelu(x) if index < 3 else x
        stage1 = self.stage(x, 1)
        stage2 = self.stage(self.downsample(stage1, "patch_embed2"), 2)
        x = stage3 = self.stage(self.downsample(stage2, "patch_embed3"), 3)
        overview = self.stage(self.downsample(x, "patch_embed4"), 4)
        context0 = self.conv(overview, "high_level_proj")
        resized = F.interpolate(context0, x.shape[2:], mode="bilinear", align_corners=False)
        context = resized
        for index in range(self.config.focus_depths[0]):
            focus3 = self.dynamic(f"sub_blocks3.{index}", x, context, resized, 2)
            x, context = focus3.tensor_split([self.config.channels[2]], dim=1)
        x = self.downsample(x, "patch_embedx.x_proj")
        context = self.downsample(context, "patch_embedx.h_proj")
        for index in range(self.config.focus_depths[1]):
            focus4 = self.dynamic(f"sub_blocks4.{index}", x, context, context0, 3)
            x, context = focus4.tensor_split([self.config.channels[3]], dim=1)
        hidden = F.silu(self.batch_norm(self.conv(focus4, "head.0"), "head.1"))
        logits = self.conv(hidden.mean((2, 3), keepdim=True), "head.4").flatten(1)
        normed = self.batch_norm(overview, "aux_head.0")
        overview_logits = self.conv(normed.mean((2, 3), keepdim=True), "aux_head.2").flatten(1)
        layers = {
            "head": hidden,
            "backbone": focus4,
            "stage1": stage1,
            "stage2": stage2,
            "stage3": stage3,
            "overview": overview,
            "focus3": focus3,
            "focus4": focus4,
        }
        return ReferenceOutputs(
            logits,
            overview_logits,
            (stage1, stage2, focus3, focus4),
            {name: features.mean((2, 3)) for name, features in layers.items()},
            self.conv(hidden, "head.4"),
            self.conv(normed, "aux_head.2"),
        )

    def conv(self, x: Tensor, key: str, stride: int = 1, dilation: int = 1) -> Tensor:
        weight = self.state[f"{key}.weight"]
        padding = dilation * (weight.shape[-1] // 2)
        groups = x.shape[1] // weight.shape[1]
        bias = self.state.get(f"{key}.bias")
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)

    def batch_norm(self, x: Tensor, key: str) -> Tensor:
        mean, var, weight, bias = (
            self.state[f"{key}.{name}"][:, None, None]
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    def layer_norm(self, x: Tensor, key: str) -> Tensor:
        mean, var = x.mean(1, keepdim=True), x.var(1, correction=0, keepdim=True)
        weight, bias = (self.state[f"{key}.{name}"][:, None, None] for name in ("weight", "bias"))
        return (x - mean) / (var + 1e-6).sqrt() * weight + bias

    def scale(self, x: Tensor, key: str) -> Tensor:
        if f"{key}.weight" not in self.state:
            return x
        return x * self.state[f"{key}.weight"][:, 0] + self.state[f"{key}.bias"][:, None, None]

    def downsample(self, x: Tensor, key: str) -> Tensor:
        return self.batch_norm(self.conv(x, f"{key}.0", stride=2), f"{key}.1")

    def large(self, x: Tensor, key: str, size: int) -> Tensor:
        total = self.batch_norm(self.conv(x, f"{key}.lk_origin"), f"{key}.origin_bn")
        for branch in BRANCHES[size].split():
            convolved = self.conv(x, f"{key}.dil_conv_k{branch}", dilation=int(branch[2:]))
            total = total + self.batch_norm(convolved, f"{key}.dil_bn_k{branch}")
        return total

    def excite(self, x: Tensor, key: str) -> Tensor:
        hidden = F.gelu(self.conv(x.mean((2, 3), keepdim=True), f"{key}.proj.1"))
        return x * torch.sigmoid(self.conv(hidden, f"{key}.proj.3"))

    def grn(self, x: Tensor, key: str) -> Tensor:
        energy = x.square().sum((2, 3), keepdim=True).sqrt()
        relative = energy / (energy.mean(1, keepdim=True) + 1e-6)
        return (self.state[f"{key}.gamma"] * relative + 1) * x + self.state[f"{key}.beta"]

    def feed_forward(self, x: Tensor, key: str, first: int) -> Tensor:
        hidden = F.gelu(self.conv(x, f"{key}.{first}"))
        hidden = hidden + self.conv(hidden, f"{key}.{first + 2}")
        return self.conv(self.grn(hidden, f"{key}.{first + 3}"), f"{key}.{first + 4}")

    def stage(self, x: Tensor, number: int) -> Tensor:
        for index in range(self.config.depths[number - 1]):
            key = f"blocks{number}.{index}"
            x = x + self.conv(x, f"{key}.dwconv")
            y = self.layer_norm(x, f"{key}.proj.0")
            y = self.large(y, f"{key}.proj.1", self.config.kernel_sizes[number - 1])
            y = self.excite(self.batch_norm(y, f"{key}.proj.2"), f"{key}.proj.3")
            x = self.scale(x, f"{key}.ls") + self.feed_forward(y, f"{key}.proj", 4)
        return x

    def dynamic(self, key: str, x: Tensor, context: Tensor, initial: Tensor, stage: int) -> Tensor:
        if key != "sub_blocks3.0":
            context = self.scale(context, f"{key}.x_scale") + self.scale(initial, f"{key}.h_scale")
        joint = torch.cat((x, context), dim=1)
        joint = joint + self.conv(joint, f"{key}.dwconv1")
        guided = self.layer_norm(joint, f"{key}.norm1")
        y = F.gelu(self.batch_norm(self.conv(guided, f"{key}.fusion.0"), f"{key}.fusion.1"))
        y = self.grn(self.conv(y, f"{key}.fusion.3"), f"{key}.fusion.4")
        gate = F.silu(self.batch_norm(self.conv(y, f"{key}.gate.0"), f"{key}.gate.1"))
        lepe = self.large(y, f"{key}.lepe.0", self.config.kernel_sizes[stage])
        lepe = self.batch_norm(lepe, f"{key}.lepe.1")
        mixed = self.conv(self.mix(key, y, guided, stage), f"{key}.dyconv_proj.0")
        y = self.batch_norm(mixed, f"{key}.dyconv_proj.1") + lepe
        y = gate * self.excite(y, f"{key}.se_layer")
        y = self.conv(self.batch_norm(y, f"{key}.proj.0"), f"{key}.proj.1")
        joint = self.scale(joint, f"{key}.ls1") + y
        joint = joint + self.conv(joint, f"{key}.dwconv2")
        fed = self.feed_forward(self.layer_norm(joint, f"{key}.norm2"), f"{key}.mlp", 0)
        return self.scale(joint, f"{key}.ls2") + fed

    def mix(self, key: str, x: Tensor, guided: Tensor, stage: int) -> Tensor:
        size, (height, width) = self.config.kernel_sizes[stage], x.shape[2:]
        enlarged = [height, width]
        if min(height, width) < size:
            enlarged = [size, int(size / height * width)]
            if height >= width:
                enlarged = [int(size / width * height), size]
            enlarged = [max(side, size) for side in enlarged]  # 15 / 11 * 11 is below 15
            x, guided = (
                F.interpolate(part, enlarged, mode="bilinear", align_corners=False)
                for part in (x, guided)
            )
        heads, channels = 2 * self.config.focus_heads[stage - 2], x.shape[1]
        features, context = guided.tensor_split([channels], dim=1)
        queries = self.batch_norm(
            self.conv(features, f"{key}.weight_query.0"), f"{key}.weight_query.1"
        )
        queries = queries * (channels // heads) ** -0.5
        pooled = F.adaptive_avg_pool2d(context, self.config.context_grid)
        keys = self.batch_norm(self.conv(pooled, f"{key}.weight_key.1"), f"{key}.weight_key.2")
        queries, keys = (part.flatten(2).unflatten(1, (heads, -1)) for part in (queries, keys))
        affinity = queries.transpose(2, 3) @ keys  # (B, heads, pixels, cells)
        weight = self.state[f"{key}.weight_proj.weight"][:, :, 0, 0]
        logits = affinity @ weight.T + self.state[f"{key}.weight_proj.bias"]
        small = self.config.small_kernel
        parts = zip(
            x.chunk(2, dim=1),
            logits.tensor_split([small**2], dim=-1),
            (small, size),
            (self.state[f"{key}.rpb1"], self.state[f"{key}.rpb2"]),
            strict=True,
        )
        mixed = torch.cat([_attend(*part) for part in parts], dim=1)
        return (
            F.adaptive_avg_pool2d(mixed, (height, width)) if enlarged != [height, width] else mixed
        )


def _attend(values: Tensor, logits: Tensor, kernel: int, bias: Tensor) -> Tensor:
    """Sum each pixel's window with the softmax of its logits, one pixel after the other."""
    height, width = values.shape[2:]
    by_head = values.unflatten(1, (len(bias), -1))
    result = torch.empty_like(by_head)
    for row in range(height):
        top = min(max(row - kernel // 2, 0), height - kernel)
        for column in range(width):
            left = min(max(column - kernel // 2, 0), width - kernel)
            window = by_head[..., top : top + kernel, left : left + kernel].flatten(-2)
            first, second = top - row + kernel - 1, left - column + kernel - 1
            own_bias = bias[:, first : first + kernel, second : second + kernel].flatten(1)
            weights = (logits[:, :, row * width + column] + own_bias).softmax(dim=-1)
            result[..., row, column] = (window * weights[:, :, None]).sum(dim=-1)
    return result.flatten(1, 2)

"""The shape of a backbone: one of the paper's, or one's own.

Torch-free, so that an HTTP worker can read it.

Source: OverLoCK (arXiv:2502.20087), and the options of the authors' code (LMMMEng/OverLoCK).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import inf
from typing import NoReturn

_INTEGERS: dict[str, tuple[int, int]] = {
    "depths": (4, 1),
    "focus_depths": (2, 1),
    "channels": (4, 4),
    "focus_heads": (2, 1),
    "kernel_sizes": (4, 5),
    "small_kernel": (0, 3),
    "context_grid": (0, 1),
    "head_channels": (0, 1),
    "in_channels": (0, 1),
}
"""By field of ``BackboneConfig``: how many numbers it has, 0 if it is one alone; their minimum."""

_RATIOS = {"mlp_ratio": 4, "focus_mlp_ratio": 2}
"""Stages of the fields that are one ratio, or one for each stage."""

MAX_KERNEL_SIZE = 19
"""Largest large kernel, as in the authors' code."""


@dataclass(frozen=True)
class BackboneConfig:
    """The shape of one OverLoCK variant, checked when it is made.

    Attributes:
        depths: blocks in stages 1 to 3 (base net) and 4 (overview net).
        focus_depths: dynamic blocks in focus stages 3 and 4.
        channels: widths of stages 1 to 4; the last two are divisible by 4 times their heads.
        focus_heads: heads of focus stages 3 and 4 as the paper counts them; ContMix has twice as
            many groups.
        kernel_sizes: large kernel of each stage, odd; the last two also are ContMix's.
        small_kernel: ContMix's small kernel, odd, at most as large as its large ones.
        mlp_ratio: hidden width of a basic block's feed-forward part, relative to its width and
            rounded down; one number, or one for each stage.
        focus_mlp_ratio: ``mlp_ratio`` of the dynamic blocks, relative to the width without context.
        layer_scale: per stage, whether its blocks scale their identity path.
        context_grid: side of the pooled context's grid.
        head_channels: width of the classifier's projection.
        in_channels: of the network's input.

    Raises:
        ValueError: naming the field, its value and its limit.
    """

    depths: tuple[int, int, int, int]
    focus_depths: tuple[int, int]
    channels: tuple[int, int, int, int]
    focus_heads: tuple[int, int]
    kernel_sizes: tuple[int, int, int, int] = (17, 15, 13, 7)
    small_kernel: int = 5
    mlp_ratio: float | tuple[float, float, float, float] = 4
    focus_mlp_ratio: float | tuple[float, float] = 3
    layer_scale: tuple[bool, bool, bool, bool] = (False, False, True, True)
    context_grid: int = 7
    head_channels: int = 1024
    in_channels: int = 3

    def __post_init__(self) -> None:
        """Check the fields; a list becomes a tuple, equal ratios become one."""
        for field in fields(self):
            value = getattr(self, field.name)
            value = tuple(value) if isinstance(value, list) else value
            count = _RATIOS.get(field.name)
            if count and isinstance(value, tuple) and value == value[:1] * count:
                value = value[0]
            object.__setattr__(self, field.name, value)
        for name, (count, minimum) in _INTEGERS.items():
            value = getattr(self, name)
            numbers = value if count else (value,)
            integers = isinstance(numbers, tuple) and [*map(type, numbers)] == [int] * (count or 1)
            if not integers or min(numbers) < minimum:
                wanted = f"{count} integers" if count else "an integer"
                self._refuse(name, f"{wanted} of at least {minimum}")
        if any(size % 2 == 0 or size > MAX_KERNEL_SIZE for size in self.kernel_sizes):
            self._refuse("kernel_sizes", f"odd numbers from 5 to {MAX_KERNEL_SIZE}")
        if self.small_kernel % 2 == 0 or self.small_kernel > min(self.kernel_sizes[2:]):
            self._refuse("small_kernel", "odd and at most as large as kernel_sizes[2:]")
        for channels, heads in zip(self.channels[2:], self.focus_heads, strict=True):
            if channels % (4 * heads):
                self._refuse(
                    "channels", f"divisible by 4 times focus_heads ({channels} by {heads})"
                )
        for name, count in _RATIOS.items():
            value = getattr(self, name)
            ratios = value if isinstance(value, tuple) else (value,) * count
            if len(ratios) != count or not all(
                type(ratio) in {int, float} and ratio < inf and int(ratio * channels) >= 1
                for ratio, channels in zip(ratios, self.channels[-count:], strict=True)
            ):
                self._refuse(name, f"one ratio or {count} that leave each stage a hidden channel")
        scales = self.layer_scale
        if not isinstance(scales, tuple) or [*map(type, scales)] != [bool] * 4:
            self._refuse("layer_scale", "4 times true or false")

    def _refuse(self, name: str, wanted: str) -> NoReturn:
        raise ValueError(f"BackboneConfig.{name} is {getattr(self, name)!r}, not {wanted}.")

    def hidden_channels(self, stage: int) -> int:
        """Return the hidden width of a basic block's feed-forward part; the first stage is 0."""
        ratio = self.mlp_ratio
        return int(self.channels[stage] * (ratio[stage] if isinstance(ratio, tuple) else ratio))

    def focus_hidden_channels(self, stage: int) -> int:
        """Return ``hidden_channels`` of the dynamic blocks of stage 2 or 3."""
        ratio = self.focus_mlp_ratio
        return int(self.channels[stage] * (ratio[stage - 2] if isinstance(ratio, tuple) else ratio))

    @property
    def context_channels(self) -> int:
        """Width of the context that travels beside the focus net's features."""
        return self.channels[3] // 4

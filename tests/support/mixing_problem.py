"""Arguments for the two implementations of ContMix's aggregation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model.kernels.context_mixing import context_mixing, position_bias_windows
from model.kernels.context_mixing_reference import context_mixing_reference

SMALL_KERNEL = 5


@dataclass(frozen=True)
class MixingProblem:
    """Arguments of the reference, and the fast paths' made of them.

    Attributes:
        values: (B, C, H, W).
        queries: (B, Q, H, W).
        keys: (B, Q, S, S).
        mix_weight: (k*k + K*K, S*S).
        mix_bias: (k*k + K*K,).
        small_position_bias: (G, 2k - 1, 2k - 1).
        large_position_bias: (G, 2K - 1, 2K - 1).
    """

    values: Tensor
    queries: Tensor
    keys: Tensor
    mix_weight: Tensor
    mix_bias: Tensor
    small_position_bias: Tensor
    large_position_bias: Tensor

    def by_reference(self) -> Tensor:
        """Solve with the plain reference."""
        return context_mixing_reference(
            self.values,
            self.queries,
            self.keys,
            self.mix_weight,
            self.mix_bias,
            self.small_position_bias,
            self.large_position_bias,
        )

    def folded(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return the fast paths' arguments."""
        groups = self.small_position_bias.shape[0]
        keys = self.keys.flatten(2).unflatten(1, (groups, -1))  # (B, G, D, S*S)
        small_taps = ((self.small_position_bias.shape[-1] + 1) // 2) ** 2
        small_bias, large_bias = self.mix_bias.tensor_split([small_taps])
        virtual_keys = self.mix_weight @ keys.transpose(2, 3)  # (B, G, taps, D)
        return (
            self.values,
            self.queries,
            # A tap's keys of all groups side by side, as one product for all of them has them.
            virtual_keys.transpose(1, 2).contiguous().transpose(1, 2),
            position_bias_windows(self.small_position_bias, small_bias),
            position_bias_windows(self.large_position_bias, large_bias),
        )

    def by_tiles(self) -> Tensor:
        """Solve with the tiled fast path."""
        return context_mixing(*self.folded(), implementation="tiles")


def mixing_problem(
    height: int,
    width: int,
    kernel_size: int,
    *,
    batch: int = 1,
    groups: int = 2,
    channels_per_group: int = 3,
    query_width: int = 4,
    grid: int = 3,
    small_kernel: int = SMALL_KERNEL,
    dtype: torch.dtype = torch.float64,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> MixingProblem:
    """Make a problem of normal values, the same ones for the same arguments."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    taps = small_kernel**2 + kernel_size**2
    return MixingProblem(
        values=normal(batch, 2 * groups * channels_per_group, height, width).contiguous(
            memory_format=memory_format
        ),
        queries=normal(batch, groups * query_width, height, width).contiguous(
            memory_format=memory_format
        ),
        keys=normal(batch, groups * query_width, grid, grid),
        mix_weight=normal(taps, grid**2) / grid,
        mix_bias=normal(taps),
        small_position_bias=normal(groups, 2 * small_kernel - 1, 2 * small_kernel - 1),
        large_position_bias=normal(groups, 2 * kernel_size - 1, 2 * kernel_size - 1),
    )

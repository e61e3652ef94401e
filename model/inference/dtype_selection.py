"""Which type a network computes in on a CPU: decided by a short measurement.

Processors with bfloat16 instructions run the network up to twice as fast in it; others emulate it,
many times slower than float32; and a small network may gain nothing anywhere. What can be read of
a processor does not say how fast it is, so both are tried.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import cast

import torch
from torch import Tensor, nn

from model.backbone.overlock import OverLoCK
from model.lowering.cpu import lower_for_cpu, lowering_unsupported_reason

CLEARLY_FASTER = 1.2
"""How many times as fast bfloat16 has to be: less is noise, and not worth its rounding."""

PRODUCT_SIDE = 256
"""Of the matrix product that goes first: emulated, even so small a one takes 0.1 s."""

INPUT_SIDE = 224
TURNS = 3
"""The two take turns, so that whatever else the machine does hits both; the median counts."""


@dataclass(frozen=True)
class DtypeChoice:
    """What a network computes in, and why, in words for the log."""

    dtype: torch.dtype
    reason: str


def choose_dtype(
    network: nn.Module, *, clock: Callable[[], float] = time.perf_counter
) -> DtypeChoice:
    """Measure a network's backbone on one image in float32 and bfloat16 and take what is faster.

    Args:
        network: any network of ``model.zoo``, folded, float32, on the CPU; not changed.
        clock: tells seconds.
    """
    reason = lowering_unsupported_reason(torch.bfloat16)
    if reason is not None:
        # Without our kernels bfloat16 meets convolutions that PyTorch emulates on any processor.
        return DtypeChoice(torch.float32, reason)
    ratio = _speed_ratio(_product(torch.float32), _product(torch.bfloat16), clock)
    if ratio < 1.0:
        return DtypeChoice(torch.float32, f"a bfloat16 product has {ratio:.2f} times the speed")
    backbone = cast("OverLoCK", network.backbone)
    with torch.inference_mode():
        usual, other = (
            _backbone_pass(backbone, dtype) for dtype in (torch.float32, torch.bfloat16)
        )
        ratio = _speed_ratio(usual, other, clock)
    dtype = torch.bfloat16 if ratio >= CLEARLY_FASTER else torch.float32
    return DtypeChoice(dtype, f"in bfloat16 it has {ratio:.2f} times the speed of float32")


def _speed_ratio(
    usual: Callable[[], object], other: Callable[[], object], clock: Callable[[], float]
) -> float:
    """Return how many times as fast the other one is."""
    ratios = []
    for _ in range(TURNS):
        seconds = [_seconds(run, clock) for run in (usual, other)]
        ratios.append(seconds[0] / seconds[1])
    return median(ratios)


def _seconds(run: Callable[[], object], clock: Callable[[], float]) -> float:
    started = clock()
    run()
    return clock() - started


def _product(dtype: torch.dtype) -> Callable[[], Tensor]:
    factor = torch.ones(PRODUCT_SIDE, PRODUCT_SIDE, dtype=dtype)
    return lambda: factor @ factor


def _backbone_pass(backbone: OverLoCK, dtype: torch.dtype) -> Callable[[], object]:
    """Return a pass in the form that would be served, warmed up."""
    served = lower_for_cpu(copy.deepcopy(backbone), dtype)
    images = torch.zeros(1, 3, INPUT_SIDE, INPUT_SIDE, dtype=dtype)
    images = images.contiguous(memory_format=torch.channels_last)
    served(images)
    return lambda: served(images)

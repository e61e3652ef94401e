"""Choice of a network's dtype on a CPU, by a short measurement.

Processors with bfloat16 instructions run the network up to twice as fast in it; others gain little
or nothing, and PyTorch emulates it there, many times slower than float32. A processor's
feature flags do not tell its speed, so both dtypes are timed.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import cast

import torch
from torch import Tensor, nn

from model.backbone.overlock import OverLoCK
from model.lowering.cpu import lower_for_cpu, lowering_unsupported_reason

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

MIN_SPEEDUP = 1.2
"""Least speedup for which bfloat16 is chosen: less is noise, and not worth its rounding."""

PRODUCT_SIDE = 256
"""Side of the matrix product that is timed first: emulated, it takes 0.1 s."""

INPUT_SIDE = 224
ROUNDS = 3
"""Rounds, each of which times both dtypes, so that other load hits both; the median counts."""


@dataclass(frozen=True)
class DtypeChoice:
    """A network's dtype, and the reason for it, for the log."""

    dtype: torch.dtype
    reason: str


class DtypeChooser:
    """Chooses the networks' dtypes on a device, each form's once.

    Args:
        device: where they will run.
        compiles: whether they will be compiled.
        requested: a name among ``DTYPES`` for all of them, or ``"auto"``.
        setting: the setting that requests it, for the reason.
        known: ``choices`` of another process on the same device.

    Attributes:
        choices: dtype and reason of each form for which it was chosen.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        compiles: bool,
        requested: str,
        setting: str,
        known: Mapping[str, tuple[str, str]],
    ) -> None:
        self._device = device
        self._compiles = compiles
        self._requested = requested
        self._setting = setting
        self.choices = dict(known)

    def choose(self, network: nn.Module, form: str) -> DtypeChoice:
        """Return a network's dtype.

        Args:
            network: as ``choose_dtype`` takes it.
            form: all that its speed depends on, in words.
        """
        if self._requested != "auto":
            return DtypeChoice(DTYPES[self._requested], f"{self._setting}={self._requested}")
        if self._device.type == "cuda":
            return DtypeChoice(torch.bfloat16, "auto on a GPU")
        if self._compiles:
            return DtypeChoice(torch.float32, "auto: compiled for a CPU")
        if form not in self.choices:
            choice = choose_dtype(network)
            self.choices[form] = str(choice.dtype).removeprefix("torch."), choice.reason
        name, reason = self.choices[form]
        return DtypeChoice(DTYPES[name], f"auto: {reason}")


def choose_dtype(
    network: nn.Module, *, clock: Callable[[], float] = time.perf_counter
) -> DtypeChoice:
    """Time a product, and then a network's backbone on one image, in both dtypes; choose one.

    Args:
        network: any network of ``model.zoo``, folded, float32, on the CPU; not changed.
        clock: returns seconds.
    """
    reason = lowering_unsupported_reason(torch.bfloat16)
    if reason is not None:
        # Without our kernels, PyTorch emulates bfloat16 convolutions on every processor.
        return DtypeChoice(torch.float32, reason)
    ratio = _speedup(_product(torch.float32), _product(torch.bfloat16), clock)
    if ratio < 1.0:
        return DtypeChoice(
            torch.float32, f"PyTorch's bfloat16 product has {ratio:.2f} times the speed"
        )
    backbone = cast("OverLoCK", network.backbone)
    with torch.inference_mode():
        float32_pass, bfloat16_pass = (
            _backbone_pass(backbone, dtype) for dtype in (torch.float32, torch.bfloat16)
        )
        ratio = _speedup(float32_pass, bfloat16_pass, clock)
    dtype = torch.bfloat16 if ratio >= MIN_SPEEDUP else torch.float32
    return DtypeChoice(dtype, f"in bfloat16 it has {ratio:.2f} times the speed of float32")


def _speedup(
    baseline: Callable[[], object], candidate: Callable[[], object], clock: Callable[[], float]
) -> float:
    """Return the baseline's time over the candidate's."""
    ratios = []
    for _ in range(ROUNDS):
        seconds = [_seconds(run, clock) for run in (baseline, candidate)]
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
    """Return a forward pass in the form that is served, warmed up."""
    lowered = lower_for_cpu(copy.deepcopy(backbone), dtype)
    images = torch.zeros(1, backbone.in_channels, INPUT_SIDE, INPUT_SIDE, dtype=dtype)
    images = images.contiguous(memory_format=torch.channels_last)
    lowered(images)
    return lambda: lowered(images)

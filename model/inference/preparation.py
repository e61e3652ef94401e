"""Preparation of a model before the first request: compiling, recording, batch sizes that fit."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from model.inference.batch_limits import fitting_batch_sizes
from model.inference.compiled import CompileError, compile_unsupported_reason

if TYPE_CHECKING:
    import torch

    from model.inference.predictor import Predictor

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CompileDecision:
    """The decision whether to compile.

    Attributes:
        compiles: the decision.
        insists: whether the setting demands it, so that a failure ends the start.
        reason: of the decision, in words.
    """

    compiles: bool
    insists: bool
    reason: str


@dataclass(frozen=True)
class PreparedModel:
    """The outcome of a model's preparation.

    Attributes:
        batch_sizes: those that fit into the device's memory.
        compiled: whether the model runs compiled.
        compiled_reason: the reason, in words.
    """

    batch_sizes: tuple[int, ...]
    compiled: bool
    compiled_reason: str


def compile_decision(setting: str, device: torch.device, setting_name: str) -> CompileDecision:
    """Decide whether to compile.

    Args:
        setting: ``auto``, ``on`` or ``off``.
        device: where the models will run.
        setting_name: the setting's name, for messages.

    Raises:
        ValueError: if compiling is ``on`` and not possible here.
    """
    if setting == "off":
        return CompileDecision(False, False, f"{setting_name}=off")
    if setting == "auto" and device.type == "cpu":
        return CompileDecision(False, False, "auto: the device is a CPU")
    reason = compile_unsupported_reason(device)
    if reason is None:
        reason = f"{setting_name}=on" if setting == "on" else "auto: the device is a GPU"
        return CompileDecision(True, setting == "on", reason)
    if setting == "on":
        raise ValueError(f"{setting_name}=on cannot be met: {reason}.")
    return CompileDecision(False, False, f"auto: {reason}")


def prepare(
    predictor: Predictor,
    name: str,
    decision: CompileDecision,
    batch_sizes: Sequence[int],
    input_sizes: Sequence[tuple[int, int]],
) -> PreparedModel:
    """Compile and record, and find out which batches fit into the device's memory.

    Args:
        predictor: the model, on its device.
        name: the model's, for the log.
        decision: whether to compile.
        batch_sizes: candidates, rising.
        input_sizes: heights and widths to prepare.

    Raises:
        ValueError: if compiling is demanded and fails, or not even one image fits.
        DeviceLostError: if the device does not work any more, whatever step found it.
    """
    compiled, reason = decision.compiles, decision.reason
    try:
        sizes = fitting_batch_sizes(predictor, batch_sizes, input_sizes)
    except CompileError as error:
        if decision.insists:
            raise ValueError(
                f"{decision.reason} cannot be met: {name} could not be compiled: {error}"
            ) from error
        logger.warning("%s could not be compiled and runs uncompiled: %s", name, error)
        predictor.do_not_compile(str(error))
        compiled, reason = False, f"{decision.reason}, but the compiler failed"
        sizes = fitting_batch_sizes(predictor, batch_sizes, input_sizes)
    if not sizes:
        raise ValueError(f"{name} does not fit into the device's memory.")
    if len(sizes) < len(batch_sizes):
        logger.warning("%s gets at most %d images at once: more do not fit.", name, sizes[-1])
    return PreparedModel(sizes, compiled, reason)

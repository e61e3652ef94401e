"""Whether a model is compiled, and which of its batches fit, before the first request."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from model.inference.batch_limits import fitting_batch_sizes
from model.inference.compiled import CompileError, compile_unsupported_reason
from service.settings import PREFIX

if TYPE_CHECKING:
    import torch

    from model.inference.predictor import Predictor

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CompileDecision:
    """Whether to compile.

    Attributes:
        compiles: the decision.
        insists: whether a failure ends the start, since it was asked for.
        reason: why.
    """

    compiles: bool
    insists: bool
    reason: str


@dataclass(frozen=True)
class PreparedModel:
    """How a model came out.

    Attributes:
        batch_sizes: those that fit.
        compiled: whether it runs compiled.
        compiled_reason: why, or why not.
    """

    batch_sizes: tuple[int, ...]
    compiled: bool
    compiled_reason: str


def compile_decision(setting: str, device: torch.device) -> CompileDecision:
    """Decide whether to compile.

    Args:
        setting: the setting.
        device: where the models will run.

    Raises:
        ValueError: if compiling was asked for and nothing here can do it.
    """
    if setting == "off":
        return CompileDecision(False, False, f"{PREFIX}COMPILE=off")
    if setting == "auto" and device.type == "cpu":
        return CompileDecision(False, False, "auto: the device is a CPU")
    reason = compile_unsupported_reason(device)
    if reason is None:
        reason = f"{PREFIX}COMPILE=on" if setting == "on" else "auto: the device is a GPU"
        return CompileDecision(True, setting == "on", reason)
    if setting == "on":
        raise ValueError(f"{PREFIX}COMPILE=on cannot be met: {reason}.")
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
        predictor: on its device.
        name: of the model, for the log.
        decision: whether to compile.
        batch_sizes: rising.
        input_sizes: for which all of that is done.

    Raises:
        ValueError: if compiling was asked for and fails, or not even one image fits.
    """
    compiled, reason = decision.compiles, decision.reason
    try:
        sizes = fitting_batch_sizes(predictor, batch_sizes, input_sizes)
    except CompileError as error:
        if decision.insists:
            raise ValueError(
                f"{PREFIX}COMPILE=on cannot be met: {name} could not be compiled: {error}"
            ) from error
        logger.warning("%s could not be compiled and runs as it is written: %s", name, error)
        predictor.do_not_compile()
        compiled, reason = False, f"{decision.reason}, but the compiler failed"
        sizes = fitting_batch_sizes(predictor, batch_sizes, input_sizes)
    if not sizes:
        raise ValueError(f"{name} does not fit into the device's memory.")
    if len(sizes) < len(batch_sizes):
        logger.warning("%s gets at most %d images at once: more do not fit.", name, sizes[-1])
    return PreparedModel(sizes, compiled, reason)

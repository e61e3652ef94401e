"""Methods that compute: in inference mode, on the right device, with the recordings' memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial, wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import torch

from model.inference.execution import Execution

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Computes(Protocol):
    """Has a device, and runs a network on it."""

    device: torch.device
    execution: Execution


Computer = TypeVar("Computer", bound=Computes)


def current(device: torch.device) -> AbstractContextManager[object]:
    """Make a GPU the current one: kernels are launched on it, whatever their tensors' device."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def computing(
    method: Callable[Concatenate[Computer, Parameters], Result],
) -> Callable[Concatenate[Computer, Parameters], Result]:
    """Run a method in inference mode, on its object's device.

    Where memory does not suffice, the method is called again with fewer recordings; see
    ``Execution.with_memory``.
    """

    @wraps(method)
    def run(
        computer: Computer, /, *arguments: Parameters.args, **options: Parameters.kwargs
    ) -> Result:
        with torch.inference_mode(), current(computer.device):
            return computer.execution.with_memory(partial(method, computer, *arguments, **options))

    return run

"""What waits for the device and what goes to it. Pure, as the scheduler."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from model.config import Task

AGEING_SECONDS = 2.0
"""A request that has waited this long counts as due, however far its deadline is."""

Payload = TypeVar("Payload")


@dataclass(frozen=True)
class QueueKey:
    """What the requests of one batch have in common.

    Attributes:
        task: what is wanted of them.
        input_size: height and width of the network's input.
        closed: 0 for the queue that everyone joins; otherwise a closed queue's number.
    """

    task: Task
    input_size: tuple[int, int]
    closed: int = 0

    @property
    def shape(self) -> QueueKey:
        """What a batch's cost depends on: whoever is in it."""
        return replace(self, closed=0) if self.closed else self

    @property
    def pixels(self) -> int:
        """Area of the network's input."""
        return self.input_size[0] * self.input_size[1]


@dataclass(frozen=True, eq=False)
class Request(Generic[Payload]):
    """One caller's wish, waiting for the device.

    Attributes:
        identity: unique among the requests that wait.
        queue: which requests it can share a batch with.
        arrived: moment of its admission.
        deadline: moment after which nobody waits for the answer.
        payload: what the engine needs to work on it and to answer; opaque here.
        alone: whether it shares a batch with nobody.
    """

    identity: Hashable
    queue: QueueKey
    arrived: float
    deadline: float
    payload: Payload
    alone: bool = False

    @property
    def urgency(self) -> float:
        """Moment by which it should be on the device; lower is more urgent."""
        return min(self.deadline, self.arrived + AGEING_SECONDS)


@dataclass(frozen=True)
class Batch(Generic[Payload]):
    """Requests that share a forward pass.

    Attributes:
        queue: what they have in common.
        requests: at least one, most urgent first.
        size: places on the device: the requests and the padding behind them.
    """

    queue: QueueKey
    requests: tuple[Request[Payload], ...]
    size: int

"""How busy an engine is, as an HTTP worker knows it: the last report, and what was sent since."""

from __future__ import annotations

import math

from model.config import Task
from service.link.messages import Answer, CostInfo, Submit, Welcome


class EngineLoad:
    """One engine's load."""

    def __init__(self) -> None:
        self._costs: tuple[CostInfo, ...] = ()
        self._pending_work_seconds = 0.0
        self._wait_seconds: dict[Task, float] = {}
        self._sent_seconds = dict.fromkeys(Task, 0.0)

    @property
    def pending_work_seconds(self) -> float:
        """How long the device is busy with what the engine has."""
        return self._pending_work_seconds + sum(self._sent_seconds.values())

    def wait_seconds(self, task: Task) -> float:
        """Return how long one more request of a task would wait for the device."""
        return self._wait_seconds.get(task, 0.0) + self._sent_seconds[task]

    def report(self, message: Welcome | Answer) -> None:
        """Take what the engine says."""
        if isinstance(message, Welcome):
            self._costs = message.costs
        self._pending_work_seconds = message.pending_work_seconds
        self._wait_seconds = message.wait_seconds
        self._sent_seconds = dict.fromkeys(Task, 0.0)

    def sent(self, submit: Submit) -> None:
        """Count a request that the engine has not reported yet."""
        self._sent_seconds[submit.task] += _marginal_seconds(self._costs, submit)


def _marginal_seconds(costs: tuple[CostInfo, ...], submit: Submit) -> float:
    """Return what one more request is likely to add to a batch; 0.0 where nothing was learnt."""
    known = [cost for cost in costs if cost.task is submit.task]
    if not known:
        return 0.0
    pixels = math.prod(submit.input_size)
    nearest = min(known, key=lambda cost: abs(math.prod(cost.input_size) - pixels))
    return nearest.per_image_seconds * pixels / math.prod(nearest.input_size)

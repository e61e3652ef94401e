"""Chooses batch sizes by what batches were seen to cost. Pure, as the scheduler."""

from __future__ import annotations

from collections.abc import Sequence

from model.config import Task
from service.engine.scheduling.cost_model import AffineCost
from service.engine.scheduling.queues import QueueKey

BATCH_SECONDS = 2.0
"""A batch that is expected to take longer is made smaller: another task waits for its end."""

UNPADDED = frozenset({Task.DETECT})
"""Tasks whose batches have no padding: behind the backbone, a detector works image by image."""


class BatchSizer:
    """Knows what batches cost and which size pays.

    Args:
        batch_sizes: sizes that batches are padded to, rising.

    Attributes:
        costs: what was learnt, by shape.
    """

    def __init__(self, batch_sizes: tuple[int, ...]) -> None:
        self._batch_sizes = batch_sizes
        self._caps: dict[QueueKey, int] = {}
        self._limits: dict[Task, int] = {}
        self.costs: dict[QueueKey, AffineCost] = {}

    def observe(
        self, key: QueueKey, size: int, device_seconds: float, *, lasting: bool = False
    ) -> None:
        """Learn from a batch; see ``AffineCost.observe``."""
        cost = self.costs.setdefault(key.shape, AffineCost())
        cost.observe(size, device_seconds, lasting=lasting)

    def seconds(self, key: QueueKey, size: int) -> float:
        """Return the device time that a batch should need, as far as known."""
        return self._cost(key).seconds(size)

    def drain_seconds(self, key: QueueKey, waiting: int) -> float:
        """Return the device time for ``waiting`` requests of one queue, in full batches."""
        cost, largest = self._cost(key), self._sizes(key)[-1]
        full, rest = divmod(waiting, largest)
        return full * cost.seconds(largest) + (cost.seconds(rest) if rest else 0.0)

    def joining_seconds(self, key: QueueKey, waiting: int) -> float:
        """Return what one more request of a queue adds to ``drain_seconds`` before it is done.

        Behind a full batch its own is taken to be full when it runs: others join it meanwhile.
        """
        largest = self._sizes(key)[-1]
        full, rest = divmod(waiting, largest)
        if not full:
            return self.seconds(key, 1)
        return self.seconds(key, largest) - (self.seconds(key, rest) if rest else 0.0)

    def choose(self, key: QueueKey, waiting: int) -> int:
        """Choose the places of the next batch: pad up, or split off a smaller full one."""
        if key.task in UNPADDED:
            return min(waiting, self._sizes(key)[-1])
        cost, sizes = self._cost(key), self._sizes(key)
        above = next((size for size in sizes if size >= waiting), None)
        if above is None:
            return sizes[-1]
        below = max((size for size in sizes if size <= waiting), default=above)
        split_seconds = cost.seconds(below) + self.drain_seconds(key, waiting - below)
        return above if cost.seconds(above) <= split_seconds else below

    def cap(self, key: QueueKey, size: int) -> int:
        """Never again make a batch of this shape as large as ``size``; return what is left."""
        smaller = [each for each in self._batch_sizes if each < size]
        self._caps[key.shape] = max(smaller, default=self._batch_sizes[0])
        return self._caps[key.shape]

    def limit(self, task: Task, largest: int) -> None:
        """Make no batch of a task larger than what fits into the device's memory."""
        self._limits[task] = largest

    def _cost(self, key: QueueKey) -> AffineCost:
        """Return what was learnt of an input size, or guess from the nearest one of its task."""
        if key.shape in self.costs:
            return self.costs[key.shape]
        known = [other for other in self.costs if other.task is key.task]
        if not known:
            return AffineCost()
        nearest = min(known, key=lambda other: abs(other.pixels - key.pixels))
        return self.costs[nearest].scaled(key.pixels / nearest.pixels)

    def _sizes(self, key: QueueKey) -> Sequence[int]:
        """Return the batch sizes that are short enough and fit in memory, at least the smallest."""
        cost, largest = self._cost(key), self._batch_sizes[-1]
        cap = min(self._caps.get(key.shape, largest), self._limits.get(key.task, largest))
        fitting = [
            size
            for size in self._batch_sizes
            if size <= cap and cost.seconds(size) <= BATCH_SECONDS
        ]
        return fitting or self._batch_sizes[:1]


def batch_sizes_up_to(largest: int) -> tuple[int, ...]:
    """Return the powers of two below ``largest``, and ``largest`` itself."""
    return (*(2**power for power in range(largest.bit_length()) if 2**power < largest), largest)

"""Costs of batches, learnt while serving, and the batch sizes that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from model.config import Operation, Task
from service.engine.scheduling.queues import QueueKey
from service.ewma import Ewma

COST_MEMORY = 0.98
"""Weight of past batches when another one is observed: about the last 50 count."""

SLOWDOWN_MEMORY = 0.9
"""Weight of past slowdowns when another one is observed: about the last ten batches count."""

MAX_SLOWDOWN = 2.0
"""Bound on one observation: a longer delay is an accident, such as a suspended machine."""


@dataclass
class AffineCost:
    """Seconds on the device for a batch of n: ``fixed + n * per_image``.

    Least squares over the observations, older ones fading. Warm-up batches never fade, so that the
    line stays determined when traffic only ever makes batches of one size.
    """

    fixed_seconds: float = 0.0
    per_image_seconds: float = 0.0

    def __post_init__(self) -> None:
        self._warm_up = Ewma(1.0)
        self._traffic = Ewma(COST_MEMORY)

    @property
    def known(self) -> bool:
        """Whether there was any observation."""
        return self._warm_up.weight + self._traffic.weight > 0

    def seconds(self, size: int) -> float:
        """Return the expected cost of a batch of ``size``."""
        return self.fixed_seconds + size * self.per_image_seconds

    def scaled(self, factor: float) -> AffineCost:
        """Return the likely cost of images of ``factor`` times the size."""
        return AffineCost(self.fixed_seconds, self.per_image_seconds * factor)

    def observe(self, size: int, seconds: float, *, lasting: bool = False) -> None:
        """Learn from a batch.

        Args:
            size: places in the batch, padding included.
            seconds: time on the device.
            lasting: whether this is a warm-up batch, which is never forgotten.
        """
        observed = self._warm_up if lasting else self._traffic
        observed.observe(size, seconds, size * size, size * seconds)
        self._fit()

    def _fit(self) -> None:
        averages = [average for average in (self._warm_up, self._traffic) if average.weight]
        weight = sum(average.weight for average in averages)
        mean_size, mean_seconds, mean_square, mean_product = (
            sum(sums) / weight for sums in zip(*(average.sums for average in averages), strict=True)
        )
        variance = mean_square - mean_size**2
        covariance = mean_product - mean_size * mean_seconds
        # With one size seen the slope is unknown; a negative one is noise. Neither coefficient may
        # be negative.
        slope = covariance / variance if variance > 1e-9 else mean_seconds / mean_size
        self.per_image_seconds = min(max(slope, 0.0), mean_seconds / mean_size)
        self.fixed_seconds = mean_seconds - self.per_image_seconds * mean_size


class SlowdownEstimator:
    """Learns how much longer a batch takes in service than its cost on the device alone.

    Between two batches the process sends answers and admits requests, slowed down by other
    processes; and postprocessing takes longer for a large photograph, whatever the batch's shape.
    """

    def __init__(self) -> None:
        self._factor = Ewma(SLOWDOWN_MEMORY, [1.0])
        self._began = self._expected_seconds = 0.0
        self._busy = False

    @property
    def slowdown(self) -> float:
        """Time from one batch's start to the next, over the batch's cost; from 1."""
        return self._factor.means[0]

    def begin(self, now: float, expected_seconds: float) -> None:
        """Note that a batch begins; if it follows another at once, learn from that one.

        Args:
            now: the present moment.
            expected_seconds: the batch's expected cost; 0.0 if it is unknown.
        """
        if self._busy and self._expected_seconds > 0:
            factor = (now - self._began) / self._expected_seconds
            self._factor.observe(min(max(factor, 1.0), MAX_SLOWDOWN))
        self._began, self._expected_seconds, self._busy = now, expected_seconds, False

    def end(self, *, more_waits: bool) -> None:
        """Note that the batch has ended, and whether another one begins at once."""
        self._busy = more_waits


BATCH_SECONDS = 2.0
"""Batches that are expected to take longer are made smaller: other operations wait meanwhile."""


UNPADDED = frozenset({Task.DETECT})
"""Tasks whose batches are not padded: behind its backbone a detector works image by image. On a GPU
the predictor may pad the backbone's part a little; costs are those of the real images."""


class BatchSizer:
    """Chooses batch sizes by the learnt costs.

    Args:
        batch_sizes: sizes that batches are padded to, ascending.

    Attributes:
        costs: learnt cost of each shape.
    """

    def __init__(self, batch_sizes: tuple[int, ...]) -> None:
        self._batch_sizes = batch_sizes
        self._caps: dict[QueueKey, int] = {}
        self._limits: dict[Operation, int] = {}
        self._fitting: dict[QueueKey, Sequence[int]] = {}
        self.costs: dict[QueueKey, AffineCost] = {}

    def observe(
        self, key: QueueKey, size: int, device_seconds: float, *, lasting: bool = False
    ) -> None:
        """Learn from a batch, as ``AffineCost.observe`` does."""
        cost = self.costs.setdefault(key.shape, AffineCost())
        cost.observe(size, device_seconds, lasting=lasting)
        self._fitting.clear()

    def seconds(self, key: QueueKey, size: int) -> float:
        """Return the expected device time of a batch."""
        return self._cost(key).seconds(size)

    def drain_seconds(self, key: QueueKey, waiting: int) -> float:
        """Return the device time for ``waiting`` requests of one queue, in full batches."""
        cost, largest = self._cost(key), self._sizes(key)[-1]
        full, rest = divmod(waiting, largest)
        return full * cost.seconds(largest) + (cost.seconds(rest) if rest else 0.0)

    def joining_seconds(self, key: QueueKey, waiting: int) -> float:
        """Return the time that one more request adds to ``drain_seconds`` until it is done.

        Behind a full batch its own batch is assumed to fill up before it runs.
        """
        largest = self._sizes(key)[-1]
        full, rest = divmod(waiting, largest)
        if not full:
            return self.seconds(key, 1)
        return self.seconds(key, largest) - (self.seconds(key, rest) if rest else 0.0)

    def choose(self, key: QueueKey, waiting: int) -> int:
        """Choose the places of the next batch: pad up, or split off a smaller full one."""
        if key.operation.task in UNPADDED:
            return min(waiting, self._sizes(key)[-1])
        cost, sizes = self._cost(key), self._sizes(key)
        above = next((size for size in sizes if size >= waiting), None)
        if above is None:
            return sizes[-1]
        below = max((size for size in sizes if size <= waiting), default=above)
        split_seconds = cost.seconds(below) + self.drain_seconds(key, waiting - below)
        return above if cost.seconds(above) <= split_seconds else below

    def fills(self, key: QueueKey, waiting: int) -> bool:
        """Return whether the requests of a queue fill its largest batch."""
        return waiting >= self._sizes(key)[-1]

    def cap(self, key: QueueKey, size: int) -> int:
        """Limit batches of this shape to less than ``size``; return the new limit."""
        smaller = [candidate for candidate in self._batch_sizes if candidate < size]
        self._caps[key.shape] = max(smaller, default=self._batch_sizes[0])
        self._fitting.clear()
        return self._caps[key.shape]

    def limit(self, operation: Operation, largest: int) -> None:
        """Limit an operation's batches to the size that fits into the device's memory."""
        self._limits[operation] = largest
        self._fitting.clear()

    def _cost(self, key: QueueKey) -> AffineCost:
        """Return the cost of an input size, estimated from the operation's nearest known one."""
        if key.shape in self.costs:
            return self.costs[key.shape]
        known = [other for other in self.costs if other.operation == key.operation]
        if not known:
            return AffineCost()
        nearest = min(known, key=lambda other: abs(other.pixels - key.pixels))
        return self.costs[nearest].scaled(key.pixels / nearest.pixels)

    def _sizes(self, key: QueueKey) -> Sequence[int]:
        """Return the sizes that are fast enough and fit into memory, at least the smallest."""
        fitting = self._fitting.get(key)
        if fitting is None:
            fitting = self._fitting[key] = self._fitting_sizes(key)
        return fitting

    def _fitting_sizes(self, key: QueueKey) -> Sequence[int]:
        cost, largest = self._cost(key), self._batch_sizes[-1]
        cap = min(self._caps.get(key.shape, largest), self._limits.get(key.operation, largest))
        fitting = [
            size
            for size in self._batch_sizes
            if size <= cap and cost.seconds(size) <= BATCH_SECONDS
        ]
        return fitting or self._batch_sizes[:1]


def batch_sizes_up_to(largest: int) -> tuple[int, ...]:
    """Return the powers of two below ``largest``, and ``largest`` itself."""
    return (*(2**power for power in range(largest.bit_length()) if 2**power < largest), largest)

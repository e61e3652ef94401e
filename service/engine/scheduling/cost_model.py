"""What a batch costs: an affine function of its size, learnt while serving."""

from __future__ import annotations

from dataclasses import dataclass

FORGETTING = 0.98
"""Weight that an observation keeps when the next one comes: about the last 50 count."""


@dataclass
class AffineCost:
    """Seconds on the device for a batch of n: ``fixed + n * per_image``.

    Least squares over the observations, older ones fading. What was seen at warm-up never fades,
    so that the line stays determined when traffic only ever makes batches of one size.
    """

    fixed_seconds: float = 0.0
    per_image_seconds: float = 0.0

    def __post_init__(self) -> None:
        self._lasting = _Sums()
        self._fading = _Sums()

    @property
    def known(self) -> bool:
        """Whether there was any observation."""
        return self._lasting.weight + self._fading.weight > 0

    def seconds(self, size: int) -> float:
        """Return the expected cost of a batch of ``size``."""
        return self.fixed_seconds + size * self.per_image_seconds

    def scaled(self, factor: float) -> AffineCost:
        """Return what images of ``factor`` times the size are likely to cost."""
        return AffineCost(self.fixed_seconds, self.per_image_seconds * factor)

    def observe(self, size: int, seconds: float, *, lasting: bool = False) -> None:
        """Learn from a batch.

        Args:
            size: places in the batch, padding included.
            seconds: time on the device.
            lasting: whether the observation is one of the warm-up's.
        """
        if not lasting:
            self._fading.fade()
        (self._lasting if lasting else self._fading).add(size, seconds)
        self._fit()

    def _fit(self) -> None:
        sums = self._lasting.plus(self._fading)
        mean_size, mean_seconds = sums.size / sums.weight, sums.seconds / sums.weight
        variance = sums.size_squared / sums.weight - mean_size**2
        covariance = sums.size_seconds / sums.weight - mean_size * mean_seconds
        # With one size seen there is no slope to find; a negative one is noise. Both ends of the
        # line have to be costs.
        slope = covariance / variance if variance > 1e-9 else mean_seconds / mean_size
        self.per_image_seconds = min(max(slope, 0.0), mean_seconds / mean_size)
        self.fixed_seconds = mean_seconds - self.per_image_seconds * mean_size


@dataclass
class _Sums:
    """Weighted sums that a least-squares line needs."""

    weight: float = 0.0
    size: float = 0.0
    seconds: float = 0.0
    size_squared: float = 0.0
    size_seconds: float = 0.0

    def add(self, size: int, seconds: float) -> None:
        self.weight += 1.0
        self.size += size
        self.seconds += seconds
        self.size_squared += size * size
        self.size_seconds += size * seconds

    def fade(self) -> None:
        self.weight *= FORGETTING
        self.size *= FORGETTING
        self.seconds *= FORGETTING
        self.size_squared *= FORGETTING
        self.size_seconds *= FORGETTING

    def plus(self, other: _Sums) -> _Sums:
        return _Sums(
            self.weight + other.weight,
            self.size + other.size,
            self.seconds + other.seconds,
            self.size_squared + other.size_squared,
            self.size_seconds + other.size_seconds,
        )


MEMORY = 0.9
"""Weight that the past keeps when another batch is seen: about the last ten count."""


MAX_SLOWDOWN = 2.0
"""What is slower by more is an accident, and no pace."""


class SlowdownEstimator:
    """Learns how much slower than the device alone everything together is.

    Between two batches answers are sent and requests admitted, by a process that others hold up
    too; and results in the size of someone's huge photograph take longer than their shape tells.

    Attributes:
        slowdown: the factor, from 1.
    """

    def __init__(self) -> None:
        self.slowdown = 1.0
        self._moment = self._expected_seconds = 0.0
        self._followed = False

    def begin(self, now: float, expected_seconds: float) -> None:
        """Note that a batch begins: if it follows another, that is how long that one really took.

        Args:
            now: the present moment.
            expected_seconds: what the batch costs, as far as known.
        """
        if self._followed and self._expected_seconds > 0:
            slowdown = (now - self._moment) / self._expected_seconds
            bounded = min(max(slowdown, 1.0), MAX_SLOWDOWN)
            self.slowdown = MEMORY * self.slowdown + (1 - MEMORY) * bounded
        self._moment, self._expected_seconds, self._followed = now, expected_seconds, False

    def end(self, *, more_waits: bool) -> None:
        """Note that the batch has ended, and whether another one begins at once."""
        self._followed = more_waits

"""An engine's batches: pixels in, logits out, staged, compiled, recorded, with tuned kernels."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from statistics import median
from typing import TYPE_CHECKING

import torch

from benchmarks.on_gpu.bench import Bench, Row, relative_error, verdict
from benchmarks.on_gpu.networks import noise_images, trained
from benchmarks.on_gpu.preparing import prepare, seconds_row
from model.inference.execution import PreparationSeconds
from model.inference.predictor import Predictor
from model.lowering.folding import fold

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from model.inference.staging import StagedImage

BATCHES = (64, 1, 16, 256)
"""The most important first."""

QUICK_BATCHES = (2, 1)
ROUNDS = 30
COMPARED_IMAGES = 4
BOUND = 2e-2
"""Largest relative error by norms, of bfloat16 against float32 on the CPU."""


class Served:
    """The served network, prepared for one batch size after the other.

    Attributes:
        name: of the network.
        side: height and width of its images.
        predictor: on the device.
    """

    def __init__(self, bench: Bench) -> None:
        self.name, self.side = model_of(bench)
        network = fold(copy.deepcopy(trained(self.name)))
        self.predictor = Predictor(network, bench.device, bench.fast_dtype, compiler=bench.compiler)
        self._prepared: dict[int, PreparationSeconds] = {}

    def shape(self, batch: int) -> tuple[int, int, int]:
        """Return a batch's shape."""
        return batch, self.side, self.side

    def prepare(self, batch: int) -> PreparationSeconds:
        """Prepare a batch size, once; return the seconds that it took."""
        if batch not in self._prepared:
            self._prepared[batch] = prepare(self.predictor, self.shape(batch))
        return self._prepared[batch]


@lru_cache(maxsize=1)
def serving(bench: Bench) -> Served:
    """Build the served network; sections of a process share it until ``release``."""
    return Served(bench)


def release() -> None:
    """Free the network of ``serving``, and the code that was compiled for it."""
    serving.cache_clear()
    torch._dynamo.reset()


def model_of(bench: Bench) -> tuple[str, int]:
    """Return the name of the served network, and the side of its images."""
    return ("nano", 64) if bench.quick else ("overlock_t", 224)


def rows(bench: Bench) -> Iterator[Row]:
    served = serving(bench)
    compared = noise_images(COMPARED_IMAGES, (served.side, served.side))
    reference = Predictor(
        fold(copy.deepcopy(trained(served.name))), torch.device("cpu"), torch.float32
    )
    want = _stacked(reference.classify(compared, served.shape(len(compared))))
    for batch in QUICK_BATCHES if bench.quick else BATCHES:
        seconds = served.prepare(batch)
        yield _row(bench, served, batch, want) | seconds_row(seconds)


def _row(bench: Bench, served: Served, batch: int, want: torch.Tensor) -> Row:
    predictor, shape = served.predictor, served.shape(batch)
    images = noise_images(batch, shape[1:])
    bench.forget_memory()
    few = images[:COMPARED_IMAGES]
    error = relative_error(_stacked(predictor.classify(few, shape)), want[: len(few)])
    alone = batch_seconds(bench, predictor, images, shape, ahead=False)
    ahead = batch_seconds(bench, predictor, images, shape, ahead=True)
    behind = launched_seconds(bench, predictor, images, shape)
    device = bench.seconds([partial(predictor.enqueue, shape)], as_graph=False)
    return {
        "model": served.name,
        "batch": batch,
        "device ms": device * 1e3,
        "device images/s": batch / device,
        "ms, staged when it runs": alone * 1e3,
        "ms, staged before": ahead * 1e3,
        "images/s": batch / ahead,
        "images/s, launched behind": batch / behind,
        "host's ms to stage": _staging_seconds(bench, predictor, images) * 1e3,
        "host's ms to launch": _launch_seconds(bench, predictor, shape) * 1e3,
        "error to the CPU": error,
        "verdict": verdict(error, BOUND),
        "peak GB": bench.peak_gigabytes(),
        "held GB": bench.held_gigabytes(),
    }


def _stacked(rows_or_none: Sequence[NDArray[np.float32] | None]) -> torch.Tensor:
    return torch.stack([torch.from_numpy(row) for row in rows_or_none if row is not None])


def _staging_seconds(
    bench: Bench, predictor: Predictor, images: Sequence[NDArray[np.uint8]]
) -> float:
    """Return the median time that the host takes to stage a batch's pixels, without its copies."""
    seconds = []
    for _ in range(rounds_of(bench)):
        start = time.perf_counter()
        staged = [predictor.staging.stage(image) for image in images]
        seconds.append(time.perf_counter() - start)
        bench.synchronize()
        del staged
    return median(seconds)


def _launch_seconds(bench: Bench, predictor: Predictor, shape: tuple[int, int, int]) -> float:
    """Return the median time after which the host is free again while the device runs a batch."""
    seconds = []
    for _ in range(rounds_of(bench)):
        start = time.perf_counter()
        predictor.enqueue(shape)
        seconds.append(time.perf_counter() - start)
        bench.synchronize()
    return median(seconds)


def rounds_of(bench: Bench) -> int:
    """Return the number of timings by the host's clock."""
    return 2 if bench.quick else ROUNDS


def batch_seconds(
    bench: Bench,
    predictor: Predictor,
    images: Sequence[NDArray[np.uint8]],
    shape: tuple[int, int, int],
    *,
    ahead: bool,
) -> float:
    """Return the median time of a batch by the host's clock, from pixels to logits there.

    Args:
        bench: for the number of rounds.
        predictor: on the device.
        images: of every batch.
        shape: places, height and width.
        ahead: whether a batch is staged before the previous one runs, as an engine does it.
    """
    seconds: list[float] = []
    waiting: list[StagedImage] = [predictor.staging.stage(image) for image in images]
    for _ in range(rounds_of(bench)):
        start = time.perf_counter()
        if ahead:
            running, waiting = waiting, [predictor.staging.stage(image) for image in images]
        else:
            running = [predictor.staging.stage(image) for image in images]
        predictor.classify(running, shape)
        seconds.append(time.perf_counter() - start)
    return median(seconds)


def launched_seconds(
    bench: Bench,
    predictor: Predictor,
    images: Sequence[NDArray[np.uint8]],
    shape: tuple[int, int, int],
) -> float:
    """Return the median time from batch to batch where each is launched behind the one before.

    As an engine under load does it: a batch's results are received when the next one is launched.
    """
    seconds: list[float] = []
    receive = predictor.launch([predictor.staging.stage(image) for image in images], shape)
    for _ in range(rounds_of(bench)):
        start = time.perf_counter()
        staged = [predictor.staging.stage(image) for image in images]
        behind = predictor.launch(staged, shape)
        receive()
        receive = behind
        seconds.append(time.perf_counter() - start)
    receive()
    return median(seconds)

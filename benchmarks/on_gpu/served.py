"""What an engine runs: pixels in, logits out, staged, compiled, recorded, kernels chosen."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks.on_gpu.bench import Bench, Row, relative_error, stopwatch, verdict
from benchmarks.on_gpu.networks import trained
from model.fitting import fitting_batch_sizes
from model.fuse import fold
from model.inference import Predictor
from model.staging import StagedImage

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCHES = (1, 8, 64, 256)
ROUNDS = 30
BOUND = 2e-2
"""By norms, bfloat16 against float32 on the CPU."""


@lru_cache(maxsize=1)
def ready(bench: Bench) -> tuple[Predictor, tuple[int, ...], float]:
    """Get the network ready as an engine does; with the batches that fit, and how long it took."""
    name, side = model_of(bench)
    batches = (1, 2) if bench.quick else BATCHES
    took = stopwatch()
    network = fold(copy.deepcopy(trained(name)))
    predictor = Predictor(network, bench.device, bench.fast_dtype, compiler=bench.compiler)
    fitting = fitting_batch_sizes(predictor, batches, [(side, side)])
    return predictor, fitting, took()


def model_of(bench: Bench) -> tuple[str, int]:
    """Return what is served here, and the side of its images."""
    return ("nano", 64) if bench.quick else ("overlock_t", 224)


def rows(bench: Bench) -> Iterator[Row]:
    name, side = model_of(bench)
    predictor, fitting, ready_seconds = ready(bench)
    folded = fold(copy.deepcopy(trained(name)))
    reference = Predictor(folded, torch.device("cpu"), torch.float32)
    for batch in fitting:
        images = _images(batch, side)
        few = images[:8]
        bench.forget_memory()
        got = predictor.classify(few, (batch, side, side))
        error = relative_error(_stacked(got), _stacked(reference.classify(few, (8, side, side))))
        alone = _seconds(bench, predictor, images, side, ahead=False)
        ahead = _seconds(bench, predictor, images, side, ahead=True)
        device = bench.seconds([partial(predictor.launch, (batch, side, side))], as_graph=False)
        yield {
            "model": name,
            "batch": batch,
            "ready s": ready_seconds,
            "device ms": device * 1e3,
            "device images/s": batch / device,
            "ms, staged when it runs": alone * 1e3,
            "ms, staged before": ahead * 1e3,
            "images/s": batch / ahead,
            "error to the CPU": error,
            "verdict": verdict(error, BOUND),
            "peak GB": bench.peak_gigabytes(),
        }


def _images(count: int, side: int) -> list[NDArray[np.uint8]]:
    generator = np.random.default_rng(count)
    return [generator.integers(0, 256, (side, side, 3), np.uint8) for _ in range(count)]


def _stacked(rows_or_none: Sequence[NDArray[np.float32] | None]) -> torch.Tensor:
    return torch.stack([torch.from_numpy(row) for row in rows_or_none if row is not None])


def _seconds(
    bench: Bench,
    predictor: Predictor,
    images: list[NDArray[np.uint8]],
    side: int,
    *,
    ahead: bool,
) -> float:
    """Return the median time of a batch by the host's clock, from pixels to logits there.

    Args:
        bench: says how often.
        predictor: on the device.
        images: of every batch.
        side: of the images.
        ahead: whether a batch is staged before the one in front of it runs, as an engine does.
    """
    shape = (len(images), side, side)
    seconds: list[float] = []
    waiting: list[StagedImage] = [predictor.staging.stage(image) for image in images]
    for _ in range(2 if bench.quick else ROUNDS):
        start = time.perf_counter()
        if ahead:
            running, waiting = waiting, [predictor.staging.stage(image) for image in images]
        else:
            running = [predictor.staging.stage(image) for image in images]
        predictor.classify(running, shape)
        seconds.append(time.perf_counter() - start)
    return median(seconds)

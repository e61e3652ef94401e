"""An engine's batches: pixels in, logits out, staged, compiled, recorded, with tuned kernels."""

from __future__ import annotations

import copy
import time
import traceback
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks.on_gpu.bench import Bench, Row, relative_error, stopwatch, verdict
from benchmarks.on_gpu.networks import trained
from model.inference.batch_limits import fitting_batch_sizes
from model.inference.predictor import Predictor
from model.inference.staging import StagedImage
from model.lowering.folding import fold

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCHES = (1, 8, 64, 256)
ROUNDS = 30
BOUND = 2e-2
"""Largest relative error by norms, of bfloat16 against float32 on the CPU."""


class NotReadyError(Exception):
    """The network could not be prepared; the message says why."""


def ready(bench: Bench) -> tuple[Predictor, tuple[int, ...], float]:
    """Prepare the network as an engine does; return it, the batches that fit, and the seconds.

    Cached for the following sections, until ``release``.

    Raises:
        NotReadyError: if it fails, or failed before: a minute is not spent twice.
    """
    made = _ready_or_why_not(bench)
    if isinstance(made, str):
        raise NotReadyError(made)
    return made


@lru_cache(maxsize=1)
def _ready_or_why_not(bench: Bench) -> tuple[Predictor, tuple[int, ...], float] | str:
    name, side = model_of(bench)
    batches = (1, 2) if bench.quick else BATCHES
    took = stopwatch()
    try:
        network = fold(copy.deepcopy(trained(name)))
        predictor = Predictor(network, bench.device, bench.fast_dtype, compiler=bench.compiler)
        fitting = fitting_batch_sizes(predictor, batches, [(side, side)])
    except Exception as error:  # noqa: BLE001 - any error would fail the next section too
        traceback.print_exc()
        return f"{type(error).__name__}: {error}"
    return predictor, fitting, took()


def release() -> None:
    """Free the network of ``ready``, and the code that was compiled for it."""
    _ready_or_why_not.cache_clear()
    torch._dynamo.reset()


def model_of(bench: Bench) -> tuple[str, int]:
    """Return the name of the served network, and the side of its images."""
    return ("nano", 64) if bench.quick else ("overlock_t", 224)


def rows(bench: Bench) -> Iterator[Row]:
    name, side = model_of(bench)
    predictor, fitting, ready_seconds = ready(bench)
    bench.forget_memory()
    held_gigabytes = bench.held_gigabytes()
    folded = fold(copy.deepcopy(trained(name)))
    reference = Predictor(folded, torch.device("cpu"), torch.float32)
    for batch in fitting:
        images = noise_images(batch, (side, side))
        few = images[:8]
        bench.forget_memory()
        got = predictor.classify(few, (batch, side, side))
        error = relative_error(_stacked(got), _stacked(reference.classify(few, (8, side, side))))
        alone = batch_seconds(bench, predictor, images, (batch, side, side), ahead=False)
        ahead = batch_seconds(bench, predictor, images, (batch, side, side), ahead=True)
        device = bench.seconds([partial(predictor.enqueue, (batch, side, side))], as_graph=False)
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
            "held GB": held_gigabytes,
        }


def noise_images(count: int, size: tuple[int, int]) -> list[NDArray[np.uint8]]:
    """Draw images of noise, (h, w, 3) each, the same ones for the same count."""
    generator = np.random.default_rng(count)
    return [generator.integers(0, 256, (*size, 3), np.uint8) for _ in range(count)]


def _stacked(rows_or_none: Sequence[NDArray[np.float32] | None]) -> torch.Tensor:
    return torch.stack([torch.from_numpy(row) for row in rows_or_none if row is not None])


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
    for _ in range(2 if bench.quick else ROUNDS):
        start = time.perf_counter()
        if ahead:
            running, waiting = waiting, [predictor.staging.stage(image) for image in images]
        else:
            running = [predictor.staging.stage(image) for image in images]
        predictor.classify(running, shape)
        seconds.append(time.perf_counter() - start)
    return median(seconds)

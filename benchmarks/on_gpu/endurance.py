"""Recompilations and growing memory, while batches of mixed shapes run as in an engine."""

from __future__ import annotations

import gc
import os
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from benchmarks.on_gpu.bench import Bench, Row, relative_error, stopwatch, verdict
from benchmarks.on_gpu.growth import Holding, growth_rows
from benchmarks.on_gpu.networks import noise_images
from benchmarks.on_gpu.served import serving
from model.inference.compiled import on_compilation
from model.inference.predictor import Predictor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from model.inference.staging import StagedImage

WARM_UP_BATCHES, BATCHES = 300, 10_000
MOST_SECONDS = 25.0
"""Upper bound of the seconds for the batches after the warm-up."""

ALL_SECONDS = 38.0
"""Seconds after which the batches end, so that the section's budget holds however long the network
took to get ready: the rest is for its process's start and for the last comparisons."""

WARM_UP_SECONDS = 8.0

BATCH_SIZES = (1, 16, 64)
"""Those of ``benchmarks.on_gpu.served``, whose compiled code is in the caches."""

IMAGES = 64
"""Number of different images of each size."""

BOUND = 6e-2
"""Largest relative error by norms. In bfloat16 an image's answers in batches of different sizes
differ by some hundredths, those of different images by 0.16 and more."""

CHECK_EVERY = 50


@dataclass(frozen=True)
class Drawn:
    """A batch whose pixels are being staged.

    Attributes:
        shape: places, height and width.
        members: indices of its images among those of their size.
        staged: its images.
    """

    shape: tuple[int, int, int]
    members: list[int]
    staged: list[StagedImage]


@dataclass(frozen=True)
class Run:
    """The result of some batches.

    Attributes:
        batches: number of batches.
        seconds: that they took.
        checked: images whose answer was compared with their first answer.
        wrong: checked images with another answer.
        largest_error: of the checked images, by norms.
    """

    batches: int
    seconds: float
    checked: int
    wrong: int
    largest_error: float


class Mixture:
    """Batches of mixed shapes, full or partly filled.

    Small batches come more often, so that each size gets as many places in all.

    Args:
        predictor: prepared for the shapes.
        batch_sizes: of the shapes.
        input_sizes: the shapes' heights and widths.
    """

    def __init__(
        self,
        predictor: Predictor,
        batch_sizes: Sequence[int],
        input_sizes: Sequence[tuple[int, int]],
    ) -> None:
        self._predictor = predictor
        self._random = random.Random(0)
        self._shapes = [(batch, *size) for batch in batch_sizes for size in input_sizes]
        self._weights = [1 / batch for batch, *_ in self._shapes]
        self._images = {size: noise_images(IMAGES, size) for size in input_sizes}
        self._answers = {size: self._first_answers(size) for size in input_sizes}

    def run(self, count: int, most_seconds: float) -> Run:
        """Run ``count`` batches within ``most_seconds``.

        As in an engine, another thread stages the next batch while one runs.
        """
        elapsed, done, errors = stopwatch(), 0, [0.0]
        with ThreadPoolExecutor(1, "staging") as stager:
            waiting = stager.submit(self._drawn)
            while done < count and elapsed() < most_seconds:
                running = waiting.result()
                waiting = stager.submit(self._drawn)
                answers = self._predictor.classify(running.staged, running.shape)
                if done % CHECK_EVERY == 0:
                    errors += self._errors(running, answers)
                done += 1
        wrong = sum(not error <= BOUND for error in errors)
        return Run(done, elapsed(), len(errors) - 1, wrong, max(errors))

    def fill(self) -> None:
        """Run every shape full, with more images staged than later ever are."""
        for shape in self._shapes:
            full = [self._staged(shape, [0] * shape[0]) for _ in range(3)]
            for batch in full:
                self._predictor.classify(batch.staged, shape)

    def _drawn(self) -> Drawn:
        (shape,) = self._random.choices(self._shapes, self._weights)
        count = self._random.randint(1, shape[0])
        return self._staged(shape, self._random.choices(range(IMAGES), k=count))

    def _staged(self, shape: tuple[int, int, int], members: list[int]) -> Drawn:
        images = self._images[shape[1:]]
        staged = [self._predictor.staging.stage(images[member]) for member in members]
        return Drawn(shape, members, staged)

    def _first_answers(self, size: tuple[int, int]) -> list[NDArray[np.float32]]:
        places = next(batch for batch, *_ in reversed(self._shapes) if batch <= IMAGES)
        answers: list[NDArray[np.float32]] = []
        for first in range(0, IMAGES, places):
            images = self._images[size][first : first + places]
            found = self._predictor.classify(images, (places, *size))
            answers += [answer for answer in found if answer is not None]
        if len(answers) != IMAGES:
            raise ValueError(f"{IMAGES - len(answers)} of {IMAGES} images have no answer")
        return answers

    def _errors(self, batch: Drawn, answers: Sequence[NDArray[np.float32] | None]) -> list[float]:
        wanted = self._answers[batch.shape[1:]]
        return [
            float("inf")
            if answer is None
            else relative_error(torch.from_numpy(answer), torch.from_numpy(wanted[member]))
            for member, answer in zip(batch.members, answers, strict=True)
        ]


def rows(bench: Bench) -> Iterator[Row]:
    compilations: list[None] = []
    on_compilation(lambda: compilations.append(None))
    took = stopwatch()
    served = serving(bench)
    batch_sizes = (2,) if bench.quick else BATCH_SIZES
    for batch in reversed(batch_sizes):
        served.prepare(batch)
    mixture = Mixture(served.predictor, batch_sizes, [(served.side, served.side)])
    mixture.fill()
    warm_up = mixture.run(5 if bench.quick else WARM_UP_BATCHES, WARM_UP_SECONDS)
    ready_seconds = took()
    before = _holding(bench, len(compilations))
    left_seconds = MOST_SECONDS if bench.quick else min(MOST_SECONDS, ALL_SECONDS - took())
    run = mixture.run(20 if bench.quick else BATCHES, left_seconds)
    after = _holding(bench, len(compilations))
    shapes = f"{', '.join(map(str, batch_sizes))} places of {served.side}x{served.side}"
    took_seconds = f"{ready_seconds:.0f} s until ready and warm, then {run.seconds:.0f} s"
    yield {
        "what": f"batches ({shapes}; {took_seconds})",
        "after the warm-up": warm_up.batches,
        "at the end": warm_up.batches + run.batches,
        "grown by": run.batches,
    }
    yield from growth_rows(before, after)
    yield {
        "what": f"wrong answers of {run.checked} (largest error {run.largest_error:.2g})",
        "after the warm-up": warm_up.wrong,
        "at the end": warm_up.wrong + run.wrong,
        "grown by": run.wrong,
        "may grow by": 0,
        "verdict": verdict(warm_up.wrong + run.wrong, 0),
    }


def _holding(bench: Bench, compilations: int) -> Holding:
    gc.collect()
    bench.synchronize()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    resident_bytes = pages * os.sysconf("SC_PAGE_SIZE")
    if not bench.is_cuda:
        return Holding(compilations, resident_bytes)
    free_bytes, total_bytes = torch.cuda.mem_get_info(bench.device)
    return Holding(
        compilations,
        resident_bytes,
        allocated_bytes=torch.cuda.memory_allocated(bench.device),
        reserved_bytes=torch.cuda.memory_reserved(bench.device),
        used_bytes=total_bytes - free_bytes,
    )

"""Segmenter and detector as they are served: recorded, not compiled; each step's time apart."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import cast

import torch

from benchmarks.on_gpu.bench import Bench, Row
from benchmarks.on_gpu.networks import noise_images, trained
from benchmarks.on_gpu.preparing import prepare, seconds_row
from model.heads.mask_rcnn import MaskRCNN
from model.inference.predictor import Predictor
from model.inference.static_module import as_maps
from model.lowering.folding import fold

CASES = (
    ("upernet_overlock_t", (512, 704), (1, 8)),
    ("mask_rcnn_overlock_t", (800, 1088), (1, 4)),
)
QUICK_CASES = (("upernet_nano", (64, 96), (1,)), ("mask_rcnn_nano", (64, 96), (1,)))

ROUNDS = 5

ORIGINAL_SIZE = (480, 640)
"""Height and width of the images that the answers are for."""


def rows(bench: Bench) -> Iterator[Row]:
    for name, size, batches in QUICK_CASES if bench.quick else CASES:
        network = fold(copy.deepcopy(trained(name)))
        predictor = Predictor(network, bench.device, bench.fast_dtype, compiler=None)
        for batch in batches:
            seconds = prepare(predictor, (batch, *size))
            bench.forget_memory()
            measured = _detector if isinstance(predictor.network, MaskRCNN) else _segmenter
            shape = (batch, *size)
            replay = bench.seconds([partial(predictor.enqueue, shape)], as_graph=False)
            row: Row = {
                "model": name,
                "input": f"{batch}x{size[0]}x{size[1]}",
                "dtype": str(bench.fast_dtype),
                "replay ms": replay * 1e3,
            }
            yield row | measured(bench, predictor, shape) | seconds_row(seconds)


def _segmenter(bench: Bench, predictor: Predictor, shape: tuple[int, int, int]) -> Row:
    images = noise_images(shape[0], shape[1:])
    originals = [ORIGINAL_SIZE] * len(images)
    logits = predictor.pixel_logits(images, shape)
    seconds = _seconds(bench, lambda: predictor.segment(images, shape, originals))
    return {
        "label maps ms": 1e3
        * _seconds(bench, lambda: predictor.label_maps(logits, shape[1:], originals)),
        "detections ms": None,
        "all ms": seconds * 1e3,
        "images/s": shape[0] / seconds,
        "peak GB": bench.peak_gigabytes(),
        "detections": None,
    }


def _detector(bench: Bench, predictor: Predictor, shape: tuple[int, int, int]) -> Row:
    images = noise_images(shape[0], shape[1:])
    originals, sizes = [ORIGINAL_SIZE] * len(images), [shape[1:]] * len(images)
    detector = cast("MaskRCNN", predictor.network)

    with torch.inference_mode():
        batch = predictor.staging.batch([predictor.staging.stage(i) for i in images], shape)
        outputs = predictor.static_module(*batch)
    pyramid, candidates = as_maps(outputs, len(images))

    @torch.inference_mode()
    def detections() -> None:
        detector.detections(pyramid, candidates, sizes, originals)

    found = predictor.detect(images, shape, originals)
    seconds = _seconds(bench, lambda: predictor.detect(images, shape, originals))
    return {
        "label maps ms": None,
        "detections ms": _seconds(bench, detections) * 1e3,
        "all ms": seconds * 1e3,
        "images/s": shape[0] / seconds,
        "peak GB": bench.peak_gigabytes(),
        "detections": sum(len(each.boxes) for each in found if each is not None),
    }


def _seconds(bench: Bench, run: Callable[[], object]) -> float:
    """Return the median time by the host's clock until the device has finished."""
    run()
    seconds = []
    for _ in range(1 if bench.quick else ROUNDS):
        bench.synchronize()
        start = time.perf_counter()
        run()
        bench.synchronize()
        seconds.append(time.perf_counter() - start)
    return median(seconds)

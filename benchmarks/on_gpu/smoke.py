"""A first look, in seconds, at everything that later sections rely on; the first error ends it.

Every new kernel at odd sizes, and each kind of network, tiny, prepared, recorded and compared with
the same network launched kernel by kernel.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from benchmarks.on_gpu import kernel_checks
from benchmarks.on_gpu.bench import Bench, Row, relative_error, verdict
from benchmarks.on_gpu.networks import noise_images, trained
from benchmarks.on_gpu.preparing import prepare, seconds_row
from model.heads.boxes import pairwise_iou
from model.heads.detections import Detections
from model.heads.mask_rcnn import MaskRCNN
from model.inference.predictor import Predictor
from model.inference.static_module import Tensors, as_maps
from model.lowering.folding import fold

if TYPE_CHECKING:
    from numpy.typing import NDArray

NETWORKS = (("nano", (64, 64)), ("upernet_nano", (64, 96)), ("mask_rcnn_nano", (64, 96)))
"""A classifier, a segmenter and a detector, and the heights and widths of their images."""

BATCHES = (2, 1)

BOUND = 2e-2
"""Largest relative error by norms. The same kernels run both ways, but a library may choose another
algorithm of its own."""

SAME_IOU, SAME_DETECTIONS = 0.9, 0.9
"""Overlap with which two boxes are the same object, and the share of objects that must be."""


class SmokeError(Exception):
    """A result is wrong; the message is its row."""


def rows(bench: Bench) -> Iterator[Row]:
    """Yield every comparison, and raise ``SmokeError`` after the first wrong one."""
    for row in _all_rows(bench):
        yield row
        if row["verdict"] != "ok":
            raise SmokeError(f"Wrong: {row}")


def _all_rows(bench: Bench) -> Iterator[Row]:
    yield from kernel_checks.rows(bench)
    for name, size in NETWORKS:
        yield from _network_rows(bench, name, size)


def _network_rows(bench: Bench, name: str, size: tuple[int, int]) -> Iterator[Row]:
    network = fold(copy.deepcopy(trained(name)))
    predictor = Predictor(network, bench.device, bench.fast_dtype, compiler=None)
    for batch in BATCHES:
        seconds = prepare(predictor, (batch, *size))
        for what, error, bound in _comparisons(predictor, batch, size):
            yield {
                "what": f"{name}, {what}",
                "problem": str((batch, *size)),
                "dtype": str(bench.fast_dtype),
                "implementation": "recorded" if bench.is_cuda else "eager",
                "error": error,
                "verdict": verdict(error, bound),
                **seconds_row(seconds),
            }


@torch.inference_mode()
def _comparisons(
    predictor: Predictor, batch: int, size: tuple[int, int]
) -> Iterator[tuple[str, float, float]]:
    """Yield what is compared with launching each kernel, its error and the bound on it."""
    shape, images, sizes = (batch, *size), noise_images(batch, size), [size] * batch
    maps = _maps(predictor, predictor.enqueue(shape))
    for number, (got, want) in enumerate(
        zip(maps, _maps(predictor, _launched(predictor, [], shape)), strict=True)
    ):
        yield f"padding's map {number}", relative_error(got, want), BOUND
    launched = _launched(predictor, images, shape)
    if isinstance(predictor.network, MaskRCNN):
        found = predictor.detect(images, shape, sizes)
        wanted = predictor.network.detections(*as_maps(launched, len(images)), sizes, sizes)
        for got_detections, want_detections in zip(found, wanted, strict=True):
            share = share_found(want_detections, got_detections)
            count = len(want_detections.boxes)
            yield f"share of {count} detections missed", 1 - share, 1 - SAME_DETECTIONS
        return
    logits = launched[0]
    if logits.ndim == 2:
        answers = [
            torch.from_numpy(row) for row in predictor.classify(images, shape) if row is not None
        ]
    else:
        answers = [row for row in predictor.pixel_logits(images, shape) if row is not None]
    yield "logits", relative_error(torch.stack(answers), logits), BOUND


def _launched(
    predictor: Predictor, images: Sequence[NDArray[np.uint8]], shape: tuple[int, int, int]
) -> Tensors:
    """Run the static part of a batch kernel by kernel."""
    staging = predictor.staging
    batch = staging.batch([staging.stage(image) for image in images], shape)
    outputs: Tensors = predictor.static_module(*batch)
    return tuple(output.clone() for output in outputs)


def _maps(predictor: Predictor, outputs: Tensors) -> list[Tensor]:
    """Return the pyramid, or the logits; candidates of equal scores may change places."""
    if isinstance(predictor.network, MaskRCNN):
        return list(as_maps(outputs, len(outputs[0]))[0])
    return [outputs[0]]


def share_found(want: Detections, got: Detections | None) -> float:
    """Return the share of the wanted instances with a found one of the same class and place."""
    if got is None:
        return 0.0
    if not len(want.boxes):
        return 1.0 if not len(got.boxes) else 0.0
    overlap = pairwise_iou(want.boxes.cpu().float(), got.boxes.cpu().float())
    same_class = want.labels.cpu().unsqueeze(1) == got.labels.cpu()
    return ((overlap > SAME_IOU) & same_class).any(dim=1).float().mean().item()

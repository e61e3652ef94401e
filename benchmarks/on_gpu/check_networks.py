"""Comparison of the networks on the device with their trained form on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from benchmarks.on_gpu.bench import Bench, Row, relative_error, verdict
from benchmarks.on_gpu.networks import images_of, in_form, trained, with_measured_kernels
from model.heads.boxes import pairwise_iou
from model.heads.detections import Detections
from model.heads.mask_rcnn import MaskRCNN

BOUNDS = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
"""Largest relative error by norms; TF32 is off."""

SAME_DETECTIONS = 0.97
"""Share of the CPU's detections that the device finds too, in float32: rounding moves a few across
a threshold. In bfloat16 the scores of random weights are too close together to compare; there the
pyramid is compared."""

SAME_IOU = 0.9

CASES: list[tuple[str, int, tuple[int, int]]] = [
    ("overlock_t", 4, (224, 224)),
    ("upernet_overlock_t", 1, (256, 320)),
    ("mask_rcnn_overlock_t", 1, (320, 416)),
    ("overlock_xt", 4, (224, 224)),
    ("overlock_s", 4, (224, 224)),
    ("overlock_b", 4, (224, 224)),
    ("overlock_t", 2, (96, 160)),  # maps smaller than the window
]
QUICK_CASES: list[tuple[str, int, tuple[int, int]]] = [
    ("nano", 2, (64, 64)),
    ("upernet_nano", 1, (64, 96)),
    ("mask_rcnn_nano", 1, (64, 64)),
]


def rows(bench: Bench) -> Iterator[Row]:
    for name, batch, size in QUICK_CASES if bench.quick else CASES:
        yield from _network_rows(bench, name, batch, size)


def _network_rows(bench: Bench, name: str, batch: int, size: tuple[int, int]) -> Iterator[Row]:
    reference = trained(name)
    images = images_of(bench, "fused", batch, size, torch.float32)
    want = _outputs(reference, images.cpu().contiguous())
    for dtype in (torch.float32, torch.bfloat16):
        network = in_form(reference, "fused", dtype, bench.device)
        own_images = images.to(dtype)
        network, _ = with_measured_kernels(bench, network, own_images)
        got = _outputs(network, own_images)
        for what, output in got.items():
            row: Row = {"network": name, "input": str((batch, *size)), "dtype": str(dtype)}
            if isinstance(output, Tensor):
                error = relative_error(output, cast("Tensor", want[what]))
                row |= {"what": what, "result": error, "verdict": verdict(error, BOUNDS[dtype])}
            else:
                share = _share_found(cast("Detections", want[what]), output)
                found = verdict(1 - share, 1 - SAME_DETECTIONS)
                row |= {"what": f"share of {what} found", "result": share, "verdict": found}
            yield row


def _outputs(network: nn.Module, images: Tensor) -> dict[str, Tensor | Detections]:
    """Return logits; of a detector, the pyramid's levels and the detections."""
    with torch.inference_mode():
        if not isinstance(network, MaskRCNN):
            return {"logits": network(images)}
        pyramid = network.neck(network.backbone.dense_features(images))
        levels: dict[str, Tensor | Detections] = {
            f"level {number}": level for number, level in enumerate(pyramid)
        }
        if images.dtype != torch.float32:
            return levels
        sizes = [(images.shape[2], images.shape[3])] * len(images)
        found: list[Detections] = network(images, sizes)
        return levels | {"detections": found[0]}


def _share_found(want: Detections, got: Detections) -> float:
    """Return the share of the wanted instances with a found one of the same class and place."""
    if not len(want.boxes):
        return float("nan")  # nothing would be compared: never "ok"
    overlap = pairwise_iou(want.boxes.cpu().float(), got.boxes.cpu().float())
    same_class = want.labels.cpu().unsqueeze(1) == got.labels.cpu()
    return ((overlap > SAME_IOU) & same_class).any(dim=1).float().mean().item()

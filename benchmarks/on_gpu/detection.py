"""RoIAlign and NMS beside torchvision's, in numbers and time, where that is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from benchmarks.on_gpu.bench import Bench, Row, relative_error, verdict
from model.heads.nms import nms
from model.heads.roi_align import LEVELS, PyramidPixels
from model.heads.roi_sampler import roi_sampler

CHANNELS = 256
IOU_THRESHOLD = 0.5
ROI_ALIGN_BOUND = 1e-5  # by norms: float32, means of bilinear samples


def rows(bench: Bench) -> Iterator[Row]:
    if find_spec("torchvision") is None:
        yield {"operation": "none compared: torchvision is not installed"}
        return
    theirs = import_module("torchvision.ops")
    height, width, count = (64, 96, 20) if bench.quick else (800, 1344, 1000)
    generator = torch.Generator().manual_seed(0)
    starts = torch.rand(count, 2, generator=generator) * torch.tensor([width, height]) * 0.7
    sides = torch.rand(count, 2, generator=generator) ** 3 * torch.tensor([width, height]) * 0.3
    boxes = torch.cat([starts, starts + sides + 1], dim=1).to(bench.device)
    scores = torch.rand(count, generator=generator).to(bench.device)
    classes = torch.randint(8, (count,), generator=generator).to(bench.device)
    levels = [
        torch.randn(CHANNELS, height >> shift, width >> shift, device=bench.device)
        for shift in range(2, 2 + LEVELS)
    ]
    for side in (7, 14):
        yield _roi_align_row(bench, theirs, levels, boxes, side)
    ours = nms(boxes, scores, classes, IOU_THRESHOLD)
    want = theirs.batched_nms(boxes, scores, classes, IOU_THRESHOLD)
    yield _row(
        bench,
        f"NMS of {count} boxes",
        0.0 if torch.equal(ours, want) else 1.0,
        lambda: nms(boxes, scores, classes, IOU_THRESHOLD),
        lambda: theirs.batched_nms(boxes, scores, classes, IOU_THRESHOLD),
    )


def _roi_align_row(
    bench: Bench, theirs: Any, levels: list[Tensor], boxes: Tensor, side: int
) -> Row:
    level_of = PyramidPixels.of(levels).level_of(boxes)
    members = [(level_of == number).nonzero().flatten() for number in range(len(levels))]

    def by_torchvision() -> Tensor:
        result = boxes.new_empty(len(boxes), CHANNELS, side, side)
        for number, (level, chosen) in enumerate(zip(levels, members, strict=True)):
            # One image; torchvision's ratio of -1 means adaptive sampling.
            result[chosen] = theirs.roi_align(
                level[None], [boxes[chosen]], side, 0.25 / 2**number, -1, aligned=True
            )
        return result

    # As a network writes them: a pixel's channels side by side.
    laid_out = [level[None].contiguous(memory_format=torch.channels_last)[0] for level in levels]

    def by_us() -> Tensor:
        return roi_sampler(laid_out)(boxes, side)

    error = relative_error(by_us(), by_torchvision())
    return _row(
        bench, f"RoIAlign {side}x{side} of {len(boxes)} boxes", error, by_us, by_torchvision
    )


def _row(
    bench: Bench, what: str, error: float, ours: Callable[[], Tensor], theirs: Callable[[], Tensor]
) -> Row:
    return {
        "operation": what,
        "error": error,
        "verdict": verdict(error, ROI_ALIGN_BOUND),
        "ours, ms": bench.seconds([ours], as_graph=False) * 1e3,
        "torchvision, ms": bench.seconds([theirs], as_graph=False) * 1e3,
    }

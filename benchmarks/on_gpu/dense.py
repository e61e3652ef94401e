"""Segmenter and detector, as served and in the authors' structure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from benchmarks.on_gpu.bench import Bench, Row
from benchmarks.on_gpu.classifiers import FORMS, dtype_of
from benchmarks.on_gpu.networks import (
    Form,
    images_of,
    in_form,
    trained,
    with_measured_kernels,
    without_our_kernels,
)
from model.heads.mask_rcnn import MaskRCNN

CASES = (
    ("upernet_overlock_t", (512, 512), (1, 8)),
    ("mask_rcnn_overlock_t", (800, 1344), (1, 4)),
    ("upernet_overlock_t", (512, 704), (1, 8)),
)
QUICK_CASES = (("upernet_nano", (64, 64), (1,)), ("mask_rcnn_nano", (64, 64), (1,)))


def rows(bench: Bench) -> Iterator[Row]:
    for name, size, batches in QUICK_CASES if bench.quick else CASES:
        reference = trained(name)
        for form in FORMS[:1] if bench.quick else FORMS:
            network = in_form(reference, form, dtype_of(bench, form), bench.device)
            for batch in batches if form == "fused" else batches[:1]:
                yield _row(bench, name, network, form, batch, size)


def _row(
    bench: Bench, name: str, network: nn.Module, form: Form, batch: int, size: tuple[int, int]
) -> Row:
    dtype = dtype_of(bench, form)
    images = images_of(bench, form, batch, size, dtype)
    if form == "fused":
        network, _ = with_measured_kernels(bench, network, images)
    bench.forget_memory()
    run = _forward(network, images, form)
    found = run()
    peak = bench.peak_gigabytes()
    # A detector decides on the host how much it computes, so one graph cannot hold it.
    graphed = None
    if bench.is_cuda and form == "fused" and not isinstance(network, MaskRCNN):
        graphed = bench.seconds([run])
    seconds = bench.seconds([run], as_graph=False)
    return {
        "model": name,
        "input": f"{batch}x{size[0]}x{size[1]}",
        "form": form,
        "dtype": str(dtype),
        "ms": seconds * 1e3,
        "graph ms": graphed and graphed * 1e3,
        "images/s": batch / min(seconds, graphed or seconds),
        "peak GB": peak,
        "detections": len(found) if isinstance(network, MaskRCNN) else None,
    }


def _forward(network: nn.Module, images: Tensor, form: Form) -> Callable[[], Tensor]:
    @torch.inference_mode()
    def run() -> Tensor:
        if form == "fused":
            return _answer(network, images)
        with without_our_kernels():
            return _answer(network, images)

    return run


def _answer(network: nn.Module, images: Tensor) -> Tensor:
    if isinstance(network, MaskRCNN):
        found = network(images, [(images.shape[2], images.shape[3])] * len(images))
        return torch.cat([detections.scores for detections in found])
    logits: Tensor = network(images)
    return logits

"""The served network compiled with other settings of the compiler: one number a batch size."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial

import torch

from benchmarks.on_gpu.bench import Bench, Row
from benchmarks.on_gpu.networks import trained
from benchmarks.on_gpu.preparing import prepare, seconds_row
from benchmarks.on_gpu.served import model_of
from model.inference.predictor import Predictor
from model.lowering.folding import fold

SWITCHES: dict[str, dict[str, bool]] = {
    "conv_1x1_as_mm": {"conv_1x1_as_mm": True},
    # Its templates fuse what comes before and after a product.
    "max_autotune_gemm": {
        "conv_1x1_as_mm": True,
        "max_autotune_gemm": True,
        "prologue_fusion": True,
        "epilogue_fusion": True,
    },
}


def rows(bench: Bench) -> Iterator[Row]:
    name, side = model_of(bench)
    for switch, settings in list(SWITCHES.items())[: 1 if bench.quick else None]:
        torch._dynamo.reset()
        network = fold(copy.deepcopy(trained(name)))
        predictor = Predictor(network, bench.device, bench.fast_dtype, compiler=bench.compiler)
        for batch in (1,) if bench.quick else (64, 1):
            shape = (batch, side, side)
            with _patched(settings):
                seconds = prepare(predictor, shape)
            device = bench.seconds([partial(predictor.enqueue, shape)], as_graph=False)
            row: Row = {
                "model": name,
                "switch": switch,
                "batch": batch,
                "device ms": device * 1e3,
                "device images/s": batch / device,
            }
            yield row | seconds_row(seconds)


def _patched(settings: dict[str, bool]) -> AbstractContextManager[object]:
    # Not at the top: importing the compiler takes seconds, and other sections of a run need none.
    from torch._inductor import config

    patched: AbstractContextManager[object] = config.patch(settings)
    return patched

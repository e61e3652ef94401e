from __future__ import annotations

import pytest
import torch

from benchmarks.on_gpu import served
from benchmarks.on_gpu.bench import Bench
from model.inference.execution import PreparationSeconds

BENCH = Bench(torch.device("cpu"), quick=True)


def test_a_batch_size_is_prepared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, int, int]] = []

    def preparing(_: object, shape: tuple[int, int, int]) -> PreparationSeconds:
        shapes.append(shape)
        return PreparationSeconds(0.0, 3.0, 0.0)

    monkeypatch.setattr(served, "prepare", preparing)
    network = served.Served(BENCH)
    assert [network.prepare(batch).compiling for batch in (2, 1, 2)] == [3.0, 3.0, 3.0]
    assert shapes == [(2, 64, 64), (1, 64, 64)]

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from benchmarks.on_gpu import served
from benchmarks.on_gpu.bench import Bench

BENCH = Bench(torch.device("cpu"), quick=True)


@pytest.fixture(autouse=True)
def _nothing_stays_ready() -> Iterator[None]:
    served.release()
    yield
    served.release()


def test_a_network_that_could_not_be_made_ready_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries: list[str] = []

    def failing(name: str) -> None:
        tries.append(name)
        raise ValueError("no compiler")

    monkeypatch.setattr(served, "trained", failing)
    for _ in range(2):
        with pytest.raises(served.NotReadyError, match="ValueError: no compiler"):
            served.ready(BENCH)
    assert tries == ["nano"]
    served.release()
    with pytest.raises(served.NotReadyError):
        served.ready(BENCH)
    assert tries == ["nano", "nano"]

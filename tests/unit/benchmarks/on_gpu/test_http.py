from __future__ import annotations

import pytest
import torch

from benchmarks.on_gpu import http
from benchmarks.on_gpu.bench import Bench


def test_the_services_packages_are_here() -> None:
    assert http.missing_packages() == []


def test_what_is_missing_is_all_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http, "_installed", lambda package: package not in {"fastapi", "uvicorn"})
    rows = list(http.rows(Bench(torch.device("cpu"), quick=True)))
    assert rows == [{"what": "not started: fastapi, uvicorn missing"}]

from __future__ import annotations

from unittest.mock import Mock

import pytest
import torch

from model.inference.copies import CudaArrival


def test_the_stream_that_computes_waits_for_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    computing, copied, gpu = Mock(), Mock(), torch.device("cuda:1")
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: {gpu: computing}[device])
    CudaArrival(1, gpu, copied).wait()
    computing.wait_event.assert_called_once_with(copied)

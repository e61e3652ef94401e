from __future__ import annotations

import torch
from torch._dynamo.callback import callback_handler

from model.compilations import on_compilation


def test_each_compilation_is_told_and_no_run_of_what_is_compiled() -> None:
    told: list[int] = []
    double = torch.compile(lambda pixels: pixels * 2, backend="eager", dynamic=False)
    double(torch.ones(2))
    on_compilation(lambda: told.append(1))
    try:
        double(torch.ones(2))
        assert told == []
        double(torch.ones(3))
        assert told == [1]
        with torch.compiler.set_stance("eager_on_recompile"):
            double(torch.ones(4))
        assert told == [1]
    finally:
        callback_handler.clear()

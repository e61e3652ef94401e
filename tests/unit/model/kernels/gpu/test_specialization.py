"""Sizes of dense inputs ask for no new compilation of a kernel, and compilations are counted."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from model.kernels.gpu.support import on_kernel_compilation

SIZES = {
    ("activated_depthwise", "_activated_depthwise_kernel"): {"height", "width"},
    ("context_mixing", "_context_mixing_kernel"): {"height", "width"},
    ("depthwise_float32", "_large_depthwise_kernel"): {"height", "width"},
    ("depthwise_16bit", "_depthwise_matrix_kernel"): {
        "height",
        "width",
        "strips",
        "strip_rows",
        "strip_columns",
    },
    ("depthwise_paired", "_depthwise_paired_kernel"): {
        "height",
        "width",
        "strips",
        "strip_rows",
        "strip_columns",
    },
    ("position_norm", "_position_norm_kernel"): {"height", "width", "strips"},
    ("response_norm", "_response_norm_kernel"): {"parts", "count"},
    ("squeeze_excite", "_squeeze_excite_kernel"): {"parts", "count", "pixels"},
}


@pytest.mark.parametrize(("module", "kernel"), SIZES)
def test_a_kernel_is_not_specialised_on_an_images_size(module: str, kernel: str) -> None:
    pytest.importorskip("triton", reason="Triton is not installed: there are no kernels")
    function: Any = getattr(importlib.import_module(f"model.kernels.gpu.{module}"), kernel)
    options = getattr(function, "kwargs", None) or vars(function)  # interpreted, or compiled
    assert {*options["do_not_specialize"]} == SIZES[module, kernel]


def test_a_kernels_compilation_is_told_and_not_prevented(monkeypatch: pytest.MonkeyPatch) -> None:
    triton = pytest.importorskip("triton", reason="Triton is not installed")
    monkeypatch.setattr(triton.knobs.runtime, "jit_cache_hook", None)
    told: list[int] = []
    on_kernel_compilation(lambda: told.append(1))
    assert triton.knobs.runtime.jit_cache_hook(key="k", already_compiled=False) is None
    assert told == [1]

"""Every kernel that the networks launch compiles for an H100 or H200, and leaves it room to work.

Triton ships the whole compiler, so this needs no GPU: a kernel's resources are read from its
machine code. The numbers depend on Triton's version; the bounds are the hardware's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from model.kernels.large_depthwise import FLOAT_TILES, MATRIX_TILES, PAIRED_TILES

pytestmark = pytest.mark.compiler

ROOT = Path(__file__).parents[5]
PROGRAM = ROOT / "tests" / "support" / "sm90.py"

REGISTERS = 65536  # of a multiprocessor
SHARED_BYTES = 227 * 1024  # of a multiprocessor
FEWEST_WARPS = 8  # two for each of the four schedulers: one works while the other waits
WIDEST_LOADS = 40  # a kernel that loads number by number has hundreds or dozens more


@pytest.fixture(
    scope="module",
    params=["bfloat16", pytest.param("float32", marks=pytest.mark.exhaustive)],
)
def kernels(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    pytest.importorskip("triton", reason="Triton is not installed: its kernels cannot be compiled")
    cache = request.config.cache
    assert cache is not None
    # Triton keeps what it compiled under a digest of source and compiler: only changes take time.
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {
        "TRITON_CACHE_DIR": str(cache.mkdir("triton")),
        "TRITON_DEFAULT_FP_FUSION": "1",
        "PYTHONPATH": str(ROOT),
    }
    run = subprocess.run(
        [sys.executable, str(PROGRAM), str(request.param)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


@pytest.mark.timeout(600)  # a cold cache on a busy machine: some 80 compilations
def test_every_configuration_compiles(kernels: list[dict[str, Any]]) -> None:
    for variant in ("overlock_xt", "overlock_t", "overlock_s", "overlock_b", "nano"):
        assert any("ContMix" in kernel["kernel"] for kernel in kernels if variant in str(kernel))
    tiles = (*MATRIX_TILES, *PAIRED_TILES) if "bfloat16" in str(kernels) else FLOAT_TILES
    for tile in tiles:
        assert any(f"{tile} tiles" in kernel["kernel"] for kernel in kernels)


def test_nothing_is_spilled_from_registers_to_memory(kernels: list[dict[str, Any]]) -> None:
    assert [kernel for kernel in kernels if kernel["spilled_bytes"]] == []


def test_a_multiprocessor_holds_enough_programs(kernels: list[dict[str, Any]]) -> None:
    for kernel in kernels:
        # Registers are given out to a warp in blocks of 256, eight for each thread.
        by_registers = REGISTERS // (32 * -(-kernel["registers"] // 8) * 8)
        by_shared = SHARED_BYTES // max(1, kernel["shared_bytes"]) * kernel["warps"]
        assert min(by_registers, by_shared) >= FEWEST_WARPS, kernel


def test_context_mixing_multiplies_on_the_matrix_units(kernels: list[dict[str, Any]]) -> None:
    mixing = [kernel for kernel in kernels if "ContMix" in kernel["kernel"]]
    assert [kernel for kernel in mixing if kernel["matrix_products"] < 4] == []


def test_depthwise_of_short_dtypes_multiplies_on_the_matrix_units(
    kernels: list[dict[str, Any]],
) -> None:
    depthwise = [kernel for kernel in kernels if kernel["kernel"].startswith("depthwise")]
    for kernel in depthwise:
        if "bfloat16" in kernel["kernel"]:
            assert kernel["matrix_products"] >= 16, kernel
            assert kernel["multiply_adds"] == 0, kernel


def test_taps_of_four_rows_pass_under_a_strip(kernels: list[dict[str, Any]]) -> None:
    paired = [kernel for kernel in kernels if "paired tiles" in kernel["kernel"]]
    # Three blocks of each row and channel of the pair. Rows that the compiler takes for constant,
    # as it does where they begin as one and the same zero, need none; interpreted, they are right.
    assert [kernel for kernel in paired if kernel["shuffles"] != 4 * 2 * 3] == []


def test_depthwise_loads_vectors_whatever_the_width(kernels: list[dict[str, Any]]) -> None:
    depthwise = [kernel for kernel in kernels if "depthwise" in kernel["kernel"]]
    # XT's 56 channels are no multiple of 16, the only divisor that Triton sees by itself.
    assert any("of 56 channels" in kernel["kernel"] for kernel in depthwise)
    assert [kernel for kernel in depthwise if kernel["loads"] > WIDEST_LOADS] == []


def test_dense_kernels_hold_their_values_in_registers(kernels: list[dict[str, Any]]) -> None:
    label_maps = [kernel for kernel in kernels if "label map" in kernel["kernel"]]
    aligned = [kernel for kernel in kernels if "RoIAlign" in kernel["kernel"]]
    assert len(label_maps) == 4
    assert len(aligned) == 2
    assert [kernel for kernel in label_maps + aligned if kernel["shared_bytes"]] == []
    # Three cells in each of four rows: the weights stand before the loop over classes.
    assert {kernel["loads"] for kernel in label_maps} == {12}
    assert [kernel for kernel in aligned if kernel["loads"] > WIDEST_LOADS] == []


def test_nms_rounds_as_pytorch_does(kernels: list[dict[str, Any]]) -> None:
    pairs = [kernel for kernel in kernels if "NMS" in kernel["kernel"]]
    assert len(pairs) == 2
    # A product that is fused with the subtraction behind it would not be rounded.
    assert [kernel for kernel in pairs if kernel["multiply_adds"]] == []

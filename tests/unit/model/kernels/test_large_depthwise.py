"""The large depthwise convolution: its weight's layout, its checks, and its dispatch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from model.kernels import large_depthwise as dispatch
from model.kernels.gpu.autotune import Autotuner
from model.kernels.gpu.depthwise_layout import lay_out, tap_major, tap_table
from model.kernels.large_depthwise import (
    FLOAT_TILES,
    MATRIX_TILES,
    Implementation,
    large_depthwise,
    large_depthwise_with_sums,
)
from support.depthwise_problem import depthwise_arguments


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=str)
@pytest.mark.parametrize("kernel_size", [17, 15, 13, 7])
def test_cpu_convolves_as_pytorch_does(kernel_size: int, layout: torch.memory_format) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 5, 11, 8, generator=generator).contiguous(memory_format=layout)
    weight = torch.randn(5, 1, kernel_size, kernel_size, generator=generator) / kernel_size
    bias = torch.randn(5, generator=generator)
    want = F.conv2d(features, weight, bias, padding=kernel_size // 2, groups=5)
    got = large_depthwise(features, weight, bias, lay_out(weight), Autotuner())
    assert_close(got, want, rtol=0, atol=0)
    assert got.stride() == want.stride()


def test_taps_lie_between_rows_of_zeros_and_end_at_a_whole_block() -> None:
    taps = tap_major(torch.ones(33, 1, 3, 3))
    assert taps.shape == (5, 3, 64)
    assert taps.is_contiguous()
    assert taps.sum() == 33 * 9  # nothing but the weight's own ones
    assert not taps[0].any()
    assert not taps[-1].any()


def test_rows_of_a_table_convolve_a_strip() -> None:
    weight = torch.randn(33, 1, 5, 5, generator=torch.Generator().manual_seed(0)).double()
    table = tap_table(weight)  # (C', U, K + 6, 16)
    assert table.shape == (64, 32, 11, 16)
    assert not table[33:].any()
    strip = torch.randn(33, 6, 20, generator=torch.Generator().manual_seed(1)).double()
    want = F.conv2d(strip[None], weight, groups=33)[0]  # (33, 2, 16)
    # Output row 1 lies one tap row above output row 0: of two neighbours it is the first.
    for row, first in ((0, 3), (1, 2)):
        rows = [strip[:, y, None, :] @ table[:33, :20, first + y] for y in range(6)]
        assert_close(torch.stack(rows).sum(dim=0)[:, 0], want[:, row])


def test_layout_is_that_of_the_dtype() -> None:
    weight = torch.ones(3, 1, 7, 7)
    assert_close(lay_out(weight), tap_major(weight))
    assert_close(lay_out(weight.bfloat16()), tap_table(weight.bfloat16()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_sums_are_those_of_the_result_in_float32(dtype: torch.dtype) -> None:
    problem = depthwise_arguments(2, 3, 9, 12, 7, dtype=dtype)
    convolved, sums = large_depthwise_with_sums(*problem, "plain")
    assert_close(convolved, large_depthwise(*problem, "plain"), rtol=0, atol=0)
    assert sums.dtype == torch.float32
    # 108 numbers near 1
    assert_close(sums[:, 0].double(), convolved.double().sum(dim=(2, 3)), rtol=0, atol=1e-4)


def test_taps_of_another_width_are_refused() -> None:
    problem = depthwise_arguments(1, 3, 9, 9, 7)
    with pytest.raises(ValueError, match=r"Taps of that weight are \(9, 7, 32\), not"):
        large_depthwise(*problem._replace(taps=problem.taps[:, :, :3]), "plain")


def test_an_even_kernel_is_refused() -> None:
    problem = depthwise_arguments(1, 3, 9, 9, 7)
    with pytest.raises(ValueError, match="an odd K"):
        large_depthwise(*problem._replace(weight=torch.ones(3, 1, 6, 6)), "plain")


def test_bias_of_another_width_is_refused() -> None:
    problem = depthwise_arguments(1, 3, 9, 9, 7)
    with pytest.raises(ValueError, match="The bias of 3 channels is not"):
        large_depthwise_with_sums(*problem._replace(bias=problem.bias[:2]), "plain")


@pytest.mark.parametrize("tile", [*FLOAT_TILES, *MATRIX_TILES])
def test_triton_is_refused_on_a_cpu(tile: Implementation) -> None:
    with pytest.raises(
        ValueError, match="The Triton kernel of large_depthwise was requested, but "
    ):
        large_depthwise(*depthwise_arguments(1, 3, 9, 9, 7), tile)


def test_the_table_is_not_consulted_where_only_pytorch_runs() -> None:
    autotuner = Autotuner()
    with autotuner.collect_problems() as problems:
        large_depthwise(*depthwise_arguments(1, 3, 9, 9, 7), autotuner)
    assert problems == []


@pytest.fixture
def as_if_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the Triton kernel take CPU tensors, and return the tiles that were requested."""
    requested: list[str] = []

    def convolved(
        features: Tensor, taps: Tensor, bias: Tensor, with_sums: bool, tile: str
    ) -> tuple[Tensor, Tensor]:
        requested.append(tile)
        return features, features.new_zeros(len(features), 1, features.shape[1])

    monkeypatch.setattr("model.kernels.gpu.selection.triton_unsupported_reason", lambda *_: None)
    for operator in ("large_depthwise_triton", "depthwise_matrix_triton"):
        monkeypatch.setattr(dispatch, operator, convolved, raising=False)
    return requested


def test_an_unmeasured_shape_runs_on_pytorch(as_if_on_a_gpu: list[str]) -> None:
    large_depthwise(*depthwise_arguments(1, 3, 9, 9, 7), Autotuner())
    assert as_if_on_a_gpu == []


@pytest.mark.parametrize(("tile", "dtype"), [("large", torch.float32), ("few", torch.bfloat16)])
@pytest.mark.parametrize("operation", [large_depthwise, large_depthwise_with_sums])
def test_a_measured_shape_runs_on_the_fastest(
    as_if_on_a_gpu: list[str], operation: Any, tile: str, dtype: torch.dtype
) -> None:
    autotuner = Autotuner()
    problem = depthwise_arguments(2, 3, 9, 9, 7, dtype=dtype)
    with autotuner.collect_problems() as collected:
        operation(*problem, autotuner)
    autotuner.measure(
        collected[0], {"plain": object, tile: list}, lambda run: 1.0 if run is list else 2.0
    )
    operation(*problem, autotuner)
    assert as_if_on_a_gpu == [tile]


def test_tile_of_another_dtype_is_refused(as_if_on_a_gpu: list[str]) -> None:
    with pytest.raises(ValueError, match=r"'few' is not a tile for torch\.float32"):
        large_depthwise(*depthwise_arguments(1, 3, 9, 9, 7), "few")
    assert as_if_on_a_gpu == []


def test_other_layouts_run_on_pytorch(as_if_on_a_gpu: list[str]) -> None:
    problem = depthwise_arguments(2, 3, 9, 9, 7)
    autotuner = Autotuner()
    with autotuner.collect_problems() as collected:
        large_depthwise(*problem._replace(features=problem.features.contiguous()), autotuner)
    assert (collected, as_if_on_a_gpu) == ([], [])

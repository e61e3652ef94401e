"""Orders of ContMix's work are offered where registers hold them."""

from __future__ import annotations

import pytest
import torch

from model.kernels.gpu.mixing_orders import ORDERS, TRITON_ORDERS, triton_orders


def test_every_order_has_a_name() -> None:
    assert tuple(ORDERS) == TRITON_ORDERS


@pytest.mark.parametrize(("width", "starts"), [(13, 1), (14, 2), (15, 0), (34, 0)])
def test_weights_are_gathered_where_windows_have_many_first_columns(
    width: int, starts: int
) -> None:
    assert ORDERS["triton_at_once"].starts(13, width) == starts
    assert ORDERS["triton"].starts(13, width) == 0


def test_orders_depend_on_dtype_width_and_kernel() -> None:
    assert triton_orders(torch.float32, 13, 13) == ("triton",)
    assert triton_orders(torch.float16, 13, 14) == TRITON_ORDERS
    assert triton_orders(torch.bfloat16, 13, 15) == ("triton", "triton_prefetched")
    assert triton_orders(torch.bfloat16, 15, 15) == TRITON_ORDERS
    assert triton_orders(torch.bfloat16, 17, 17) == ("triton", "triton_prefetched")

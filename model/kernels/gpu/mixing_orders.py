"""Orders in which ContMix's kernel does its work: candidates for a measurement."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch

TritonOrder = Literal["triton", "triton_prefetched", "triton_at_once"]
TRITON_ORDERS: tuple[TritonOrder, ...] = get_args(TritonOrder)

MAX_AT_ONCE_KERNEL = 15
"""Largest kernel whose logits fit the registers at once: above, a tap row is padded to 32."""

MAX_STARTS = 2
"""Most first columns of windows that products tell apart; to gather more is less work."""


class Order(NamedTuple):
    """The order of a program's work.

    Attributes:
        stages: tap rows in flight: the loads of one overlap the products of the others.
        one_softmax: whether all tap rows' logits are made before the first weight.
    """

    stages: int
    one_softmax: bool

    def starts(self, kernel_size: int, width: int) -> int:
        """Return the number of first columns of windows that products tell apart; 0 to gather."""
        starts = width - kernel_size + 1
        return starts if self.one_softmax and starts <= MAX_STARTS else 0


ORDERS: dict[str, Order] = {
    "triton": Order(stages=2, one_softmax=False),
    "triton_prefetched": Order(stages=3, one_softmax=False),
    "triton_at_once": Order(stages=1, one_softmax=True),
}
"""A later stage hides loads where few programs share a multiprocessor; one softmax frees the tap
rows of each other, in twice the registers."""


def triton_orders(dtype: torch.dtype, kernel_size: int, width: int) -> tuple[TritonOrder, ...]:
    """Return the orders for a dtype, the larger kernel and a map's width.

    float32 has registers for the first alone, and one softmax has none for maps that are wider than
    their windows by more than a column, nor for the largest kernels.
    """
    if dtype.itemsize != 2:
        return TRITON_ORDERS[:1]
    at_once = width - kernel_size < MAX_STARTS and kernel_size <= MAX_AT_ONCE_KERNEL
    return TRITON_ORDERS if at_once else TRITON_ORDERS[:2]

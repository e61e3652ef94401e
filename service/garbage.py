"""Garbage collection in a process that lives long."""

from __future__ import annotations

import gc

YOUNG_OBJECTS = 20_000
"""New ones until a collection; by default 700, which is every few requests."""


def settle() -> None:
    """Leave what is there now out of all collections to come, and collect seldom.

    A process that has started holds some hundred thousand objects which it keeps until it ends. To
    look through them again and again takes a few percent of what a request costs, and the whole
    event loop waits meanwhile.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)

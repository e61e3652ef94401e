"""Tells when PyTorch's compiler runs."""

from __future__ import annotations

from collections.abc import Callable


def on_compilation(call: Callable[[], None]) -> None:
    """Have a function called whenever torch.compile begins to compile, by the thread that waits.

    Args:
        call: quick, and does not raise.
    """
    # Not at the top: the compiler takes a second to import, and only compiled models need it.
    from torch._dynamo.callback import callback_handler

    callback_handler.register_start_callback(lambda _: call())

"""Threads of an HTTP worker for decoding and rendering."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

THREADS = 2
"""Number of decoding threads, and of rendering threads."""

NICENESS = 5
"""Niceness of those threads, added to the process's own."""

ResultT = TypeVar("ResultT")


def nice_threads(name: str) -> ThreadPoolExecutor:
    """Return threads whose names begin with ``name``.

    On Linux a niceness is a thread's. Where cores are few, the event loop, which rejects excess
    requests, runs before the decoding of those that were admitted.
    """
    return ThreadPoolExecutor(
        THREADS, thread_name_prefix=name, initializer=os.nice, initargs=(NICENESS,)
    )


async def in_thread(
    threads: ThreadPoolExecutor, function: Callable[..., ResultT], *arguments: Any
) -> ResultT:
    """Call a function in one of the threads."""
    return await asyncio.get_running_loop().run_in_executor(threads, function, *arguments)

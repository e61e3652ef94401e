"""Read items in threads, a bounded number of them ahead of the consumer."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

MAX_READERS = 16
"""Maximum number of threads; a machine with fewer cores gets one per core."""

Key = TypeVar("Key")
Item = TypeVar("Item")


def prefetch(
    read: Callable[[Key], Item], keys: Iterable[Key], ahead: int
) -> Generator[Item, None, None]:
    """Yield the items of the keys in order; threads read up to ``ahead`` of them early."""
    readers = ThreadPoolExecutor(min(MAX_READERS, os.cpu_count() or 1))
    waiting: deque[Future[Any]] = deque()
    try:
        for key in keys:
            waiting.append(readers.submit(read, key))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        readers.shutdown(cancel_futures=True)

"""Calls of the CPU kernels, which a thread may note down while it makes them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from model.kernels.cpu.library import native_library

Note = Callable[[str, tuple[int | None, ...]], None]
"""Takes a kernel's name and arguments: addresses, None for a missing one, and numbers."""


class _Notes(threading.local):
    note: Note | None = None


_notes = _Notes()


def launch(name: str, *arguments: int | None) -> None:
    """Call a kernel, a function of the C files, and wait for it."""
    if _notes.note is not None:
        _notes.note(name, arguments)
    getattr(native_library(), name)(*arguments)


@contextmanager
def noting(note: Note) -> Iterator[None]:
    """Hand every call of this thread to ``note``, before it is made."""
    _notes.note = note
    try:
        yield
    finally:
        _notes.note = None

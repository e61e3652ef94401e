"""Release of what a failure holds: the variables of all frames that it passed."""

from __future__ import annotations


def release(error: BaseException) -> None:
    """Cut the traceback of an exception, and of those behind it.

    A frame that names the exception makes a cycle with it, as asyncio's task groups do. It lasts
    until Python looks for cycles, which it does after so many new objects, whatever their bytes:
    with the bodies of calls in it, a worker grows by gigabytes.
    """
    left, seen = [error], set()
    while left:
        each = left.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        each.__traceback__ = None
        left += [other for other in (each.__cause__, each.__context__) if other is not None]
        if isinstance(each, BaseExceptionGroup):
            left += each.exceptions

"""What every route below ``/v1`` demands of a query, beside the types of its parameters."""

from __future__ import annotations

from collections import Counter

from fastapi import Request

from service.api.errors import InvalidParameterError

MAX_NAME = 80
"""Characters of a parameter's name that a problem repeats."""


def refuse_repeated_parameters(request: Request) -> None:
    """Refuse a query that gives a parameter twice: only one of the values would count.

    Raises:
        InvalidParameterError: if it does, with the parameter's name.
    """
    counts = Counter(name for name, _ in request.query_params.multi_items())
    for name, count in counts.items():
        if count > 1:
            raise InvalidParameterError(f"{name[:MAX_NAME]} is given {count} times; give it once.")

"""Demands on a query, and the choice between JSON and PNG by Accept (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from fastapi import Request
from pydantic import BaseModel
from starlette.responses import Response

from service.api.errors import InvalidParameterError, NotAcceptableError

JSON, PNG = "application/json", "image/png"
BYTES = "application/octet-stream"

REPEATABLE = {"class_id"}
"""Parameters that may be given several times."""

MAX_NAME = 80
"""Characters of a parameter's name that a problem repeats."""


VARY = {"Vary": "Accept"}
"""For caches: the answer depends on the Accept header."""


def prefers_png(accepts: Sequence[str]) -> bool:
    """Return whether the caller prefers a PNG to JSON; JSON wins a tie.

    Args:
        accepts: the Accept headers; without any, everything is accepted.

    Raises:
        NotAcceptableError: if it accepts neither.
    """
    return _preferred(accepts, (JSON, PNG)) == PNG


def prefers_bytes(accepts: Sequence[str]) -> bool:
    """Return whether the caller prefers plain bytes to JSON, as ``prefers_png`` does."""
    return _preferred(accepts, (JSON, BYTES)) == BYTES


async def demand_json(request: Request) -> None:
    """Refuse a caller of a route that answers with JSON alone, if it does not accept JSON.

    Raises:
        NotAcceptableError: if it does not.
    """
    _preferred(request.headers.getlist("accept"), (JSON,))


def _preferred(accepts: Sequence[str], offered: Sequence[str]) -> str:
    """Return the media type with the greatest weight; of equal ones the first."""
    accept = ",".join(accepts)
    if not accept.strip():
        return offered[0]
    best = max(offered, key=lambda media_type: _quality(accept, media_type))
    if not _quality(accept, best):
        answers = " and ".join(offered)
        raise NotAcceptableError(f"Accept is {accept[:80]!r}; answers are {answers}.")
    return best


def picture_response(png: bytes) -> Response:
    """Answer with a picture."""
    return Response(png, media_type=PNG, headers=VARY)


def document_response(document: BaseModel) -> Response:
    """Answer with JSON on a route that also answers with pictures."""
    return Response(document.model_dump_json(), media_type=JSON, headers=VARY)


def _quality(accept: str, media_type: str) -> float:
    """Return the weight of a media type, 0 to 1: the most specific range that covers it counts."""
    family = media_type.partition("/")[0] + "/*"
    weights: dict[str, float] = {}
    for part in accept.lower().split(","):
        media_range, *parameters = (piece.strip() for piece in part.split(";"))
        weights[media_range] = _weight(parameters)
    return next((weights[r] for r in (media_type, family, "*/*") if r in weights), 0.0)


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                weight = float(value)
            except ValueError:
                return 0.0
            # NaN compares as False and counts as 0.
            return min(weight, 1.0) if weight > 0 else 0.0
    return 1.0


async def refuse_repeated_parameters(request: Request) -> None:
    """Refuse a query that gives a parameter twice: only one of the values would count.

    Raises:
        InvalidParameterError: if it does, with the parameter's name.
    """
    counts = Counter(name for name, _ in request.query_params.multi_items())
    for name, count in counts.items():
        if count > 1 and name not in REPEATABLE:
            raise InvalidParameterError(f"{name[:MAX_NAME]} is given {count} times; give it once.")

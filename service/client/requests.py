"""The requests that a client can send, and the parsing of replies; no input or output here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Generic, Literal, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from service.api.schemas import (
    ClassifyResponse,
    DetectResponse,
    EmbedResponse,
    ExplainResponse,
    ModelsResponse,
    ProblemDocument,
    SegmentResponse,
    ServedModel,
)
from service.client.errors import ClientError, ProblemError, UnexpectedAnswerError

JSON, PNG = "application/json", "image/png"

SHOWN_CHARACTERS = 200
"""Length of the excerpt of an unexpected answer in an error message."""

Result = TypeVar("Result")
Document = TypeVar("Document", bound=BaseModel)

ImageFile = bytes | Path
"""An encoded image, or its path."""

Parameter = str | int | float | bool | Sequence[int]
"""A value of a query's parameter; a sequence repeats the parameter, once for each value."""


@dataclass(frozen=True)
class Tiles:
    """How a large image is taken in tiles; None leaves it to the service.

    Attributes:
        tile: side of a tile, pixels; None for the whole image alone.
        overlap: part of a tile's side that its neighbour sees too.
    """

    tile: int | None
    overlap: float | None

    @property
    def query(self) -> dict[str, Parameter | None]:
        """Parameters of the request."""
        return {"tile": self.tile, "overlap": self.overlap}


@dataclass(frozen=True)
class Reply:
    """A response, read to its end.

    Attributes:
        url: URL of the request, without its query.
        status: of HTTP.
        headers: of the response.
        body: of the response, decompressed.
    """

    url: str
    status: int
    headers: httpx.Headers
    body: bytes

    @property
    def retry_after_seconds(self) -> float | None:
        """Wait before a retry; None if the response states none."""
        return parse_retry_after(self.headers.get("retry-after"))


@dataclass(frozen=True)
class Call(Generic[Result]):
    """A request to the service, and the parser of its reply.

    Attributes:
        path: of the route.
        read: parses a reply with status 200; raises ValueError if it is malformed.
        image: the request's body; None sends a GET request.
        query: the route's parameters; None leaves one to the service.
        accept: media type of the answer.
    """

    path: str
    read: Callable[[Reply], Result]
    image: bytes | None = None
    query: Mapping[str, Parameter | None] = field(default_factory=dict)
    accept: str = JSON

    def result(self, reply: Reply) -> Result:
        """Parse a reply.

        Raises:
            ProblemError: if it is a problem document.
            UnexpectedAnswerError: if it is not the service's.
        """
        if reply.status != HTTPStatus.OK:
            raise error_of(reply)
        try:
            return self.read(reply)
        except ValueError as error:
            raise _unexpected(reply) from error


def classify(image: ImageFile, top_k: int | None, model: str | None) -> Call[ClassifyResponse]:
    """Request the most likely classes."""
    return Call(
        "/v1/classify", _json(ClassifyResponse), _bytes(image), {"top_k": top_k, "model": model}
    )


def segment(
    image: ImageFile, mask: Literal["png", "rle", "none"], model: str | None, tiles: Tiles
) -> Call[SegmentResponse]:
    """Request the class of every pixel."""
    query = {"mask": mask, "model": model, **tiles.query}
    return Call("/v1/segment", _json(SegmentResponse), _bytes(image), query)


def segment_picture(
    image: ImageFile, view: Literal["labels", "overlay"], model: str | None, tiles: Tiles
) -> Call[bytes]:
    """Request a label map, on its own or over the image."""
    query = {"view": view, "model": model, **tiles.query}
    return Call("/v1/segment", _png, _bytes(image), query, PNG)


def detect(
    image: ImageFile,
    score_threshold: float | None,
    max_detections: int | None,
    model: str | None,
    tiles: Tiles,
    *,
    masks: bool,
) -> Call[DetectResponse]:
    """Request the objects on an image."""
    query = _detect_query(score_threshold, max_detections, model, tiles, masks=masks)
    return Call("/v1/detect", _json(DetectResponse), _bytes(image), query)


def detect_picture(
    image: ImageFile,
    score_threshold: float | None,
    max_detections: int | None,
    model: str | None,
    tiles: Tiles,
    *,
    masks: bool,
) -> Call[bytes]:
    """Request the image with the detections drawn on it."""
    query = _detect_query(score_threshold, max_detections, model, tiles, masks=masks)
    return Call("/v1/detect", _png, _bytes(image), query, PNG)


def embed(
    image: ImageFile, layer: str | None, model: str | None, *, normalize: bool
) -> Call[EmbedResponse]:
    """Request the mean of a layer's map."""
    query = {"layer": layer, "normalize": normalize, "model": model}
    return Call("/v1/embed", _json(EmbedResponse), _bytes(image), query)


def explain(
    image: ImageFile, top_k: int | None, class_ids: Sequence[int] | None, model: str | None
) -> Call[ExplainResponse]:
    """Request class maps.

    Raises:
        ValueError: if there are class ids, but none.
    """
    query = _explain_query(top_k, class_ids, model)
    return Call("/v1/explain", _json(ExplainResponse), _bytes(image), query)


def explain_picture(
    image: ImageFile,
    view: Literal["focus", "overview", "both"],
    top_k: int | None,
    class_ids: Sequence[int] | None,
    model: str | None,
) -> Call[bytes]:
    """Request the image with the first class's map over it.

    Raises:
        ValueError: if there are class ids, but none.
    """
    query = {"view": view, **_explain_query(top_k, class_ids, model)}
    return Call("/v1/explain", _png, _bytes(image), query, PNG)


def models() -> Call[list[ServedModel]]:
    """Request the list of served models."""
    read = _json(ModelsResponse)
    return Call("/v1/models", lambda reply: read(reply).models)


def error_of(reply: Reply) -> ClientError:
    """Return the error that a reply with another status than 200 stands for."""
    try:
        problem = ProblemDocument.model_validate_json(reply.body)
    except ValidationError:
        return _unexpected(reply)
    return ProblemError(problem, reply.retry_after_seconds)


def _detect_query(
    score_threshold: float | None,
    max_detections: int | None,
    model: str | None,
    tiles: Tiles,
    *,
    masks: bool,
) -> dict[str, Parameter | None]:
    return {
        "score_threshold": score_threshold,
        "max_detections": max_detections,
        "masks": masks,
        "model": model,
        **tiles.query,
    }


def _explain_query(
    top_k: int | None, class_ids: Sequence[int] | None, model: str | None
) -> dict[str, Parameter | None]:
    if class_ids is not None and not class_ids:
        # No parameter at all would ask for the most likely class.
        raise ValueError("class_ids is empty; name at least one class, or leave it out.")
    return {"top_k": top_k, "class_id": class_ids, "model": model}


def _bytes(image: ImageFile) -> bytes:
    return image.read_bytes() if isinstance(image, Path) else image


def _json(kind: type[Document]) -> Callable[[Reply], Document]:
    # pydantic's ValidationError is a ValueError.
    return lambda reply: kind.model_validate_json(reply.body)


def _png(reply: Reply) -> bytes:
    media_type = reply.headers.get("content-type", "nothing")
    if media_type != PNG:
        raise ValueError(f"expected {PNG}, not {media_type}")
    return reply.body


def _unexpected(reply: Reply) -> UnexpectedAnswerError:
    text = reply.body.decode("utf-8", "replace")
    excerpt = " ".join(text.split())[:SHOWN_CHARACTERS] or "nothing"
    return UnexpectedAnswerError(reply.url, reply.status, excerpt)


def parse_retry_after(retry_after: str | None) -> float | None:
    """Parse a Retry-After header, seconds or a date; None if it is missing or malformed."""
    if retry_after is None:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())

"""Request and outcome of each image, the same in this process and by a service."""

from __future__ import annotations

from dataclasses import dataclass

from model.config import Task
from service.api.errors import ServiceError
from service.api.queries import (
    ClassifyQuery,
    DetectQuery,
    EmbedQuery,
    ExplainQuery,
    SegmentQuery,
)
from service.api.schemas import (
    ClassifyResponse,
    DetectResponse,
    EmbedResponse,
    ExplainResponse,
    SegmentResponse,
)
from service.commands.predict.sources import Source, SourceError

Query = ClassifyQuery | SegmentQuery | DetectQuery | EmbedQuery | ExplainQuery
Document = ClassifyResponse | SegmentResponse | DetectResponse | EmbedResponse | ExplainResponse


@dataclass(frozen=True)
class PredictRequest:
    """The query for every image.

    Attributes:
        query: as the service takes it; a segmenter's view is the overlay's.
        saves: whether what ``--save`` writes is wanted too, pictures among it.
    """

    query: Query
    saves: bool

    @property
    def task(self) -> Task:
        """The task that the query belongs to."""
        match self.query:
            case ClassifyQuery():
                return Task.CLASSIFY
            case SegmentQuery():
                return Task.SEGMENT
            case DetectQuery():
                return Task.DETECT
            case EmbedQuery():
                return Task.EMBED
            case ExplainQuery():
                return Task.EXPLAIN

    @property
    def tiled(self) -> SegmentQuery | DetectQuery | None:
        """The query, if images are taken in tiles."""
        query = self.query
        if isinstance(query, SegmentQuery | DetectQuery) and query.tile is not None:
            return query
        return None


@dataclass(frozen=True)
class PredictAnswer:
    """The prediction for one image.

    Attributes:
        document: as the service would answer.
        picture: the overlay or heat map, a PNG; None if none is drawn.
    """

    document: Document
    picture: bytes | None


@dataclass(frozen=True)
class Failure:
    """The reason why there is no answer.

    Attributes:
        kind: for programs: the slug of a problem, or another kind such as "unreadable".
        detail: for people.
    """

    kind: str
    detail: str


@dataclass(frozen=True)
class Outcome:
    """The outcome of one image."""

    source: Source
    result: PredictAnswer | Failure


def unreadable(error: SourceError | OSError) -> Failure:
    """Return the reason why a file cannot be read."""
    detail = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    return Failure("unreadable", detail)


def failure_of(error: ServiceError | SourceError | OSError) -> Failure:
    """Return the reason why there is no answer for an image."""
    if isinstance(error, ServiceError):
        return Failure(error.slug, error.detail)
    return unreadable(error)

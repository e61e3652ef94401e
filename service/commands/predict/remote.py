"""Prediction by a service, with several requests in flight."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from service.api.queries import (
    ClassifyQuery,
    DetectQuery,
    EmbedQuery,
    ExplainQuery,
    SegmentQuery,
)
from service.client import (
    AsyncClient,
    ClientError,
    ProblemError,
    TooLateError,
    UnexpectedAnswerError,
)
from service.commands.console.remote_options import models_for
from service.commands.predict.outcome import (
    Document,
    Failure,
    Outcome,
    PredictAnswer,
    PredictRequest,
    unreadable,
)
from service.commands.predict.sources import Source, SourceError

AHEAD = 4
"""Outcomes per concurrent request that may be done and wait for earlier ones."""


class RemotePredictor:
    """A service that predicts.

    Args:
        client: the service's client; the caller closes it.
        request: the query for every image.
        concurrency: most requests in flight.
    """

    def __init__(self, client: AsyncClient, request: PredictRequest, concurrency: int) -> None:
        self._client = client
        self._request = request
        self._concurrency = concurrency
        self._permits = asyncio.Semaphore(concurrency)

    async def note(self) -> str | None:
        """Check that the service serves the task; return the caveat about its answers, if any.

        Raises:
            RefusedError: if it does not serve the task.
            ClientError: if it cannot be reached, or refuses.
        """
        name, models = self._request.query.model, await self._client.models()
        (model, *_) = models_for(self._request.task, models, self._client.url, name)
        return model.note

    async def outcomes(self, sources: Sequence[Source]) -> AsyncIterator[Outcome]:
        """Predict on every image, in order."""
        waiting: deque[asyncio.Task[Outcome]] = deque()
        try:
            for source in sources:
                waiting.append(asyncio.create_task(self._outcome(source)))
                # Finished outcomes are yielded at once; the number of others is bounded.
                while waiting[0].done() or len(waiting) >= AHEAD * self._concurrency:
                    yield await waiting.popleft()
                    if not waiting:
                        break
            while waiting:
                yield await waiting.popleft()
        finally:
            for task in waiting:
                task.cancel()
            for task in waiting:
                with suppress(asyncio.CancelledError):
                    await task

    async def _outcome(self, source: Source) -> Outcome:
        async with self._permits:
            try:
                body = await asyncio.to_thread(source.read)
                return Outcome(source, await self._answer(body))
            except (SourceError, OSError) as error:
                return Outcome(source, unreadable(error))
            except ClientError as error:
                return Outcome(source, _failure_of(error))

    async def _answer(self, body: bytes) -> PredictAnswer:
        """Request the document and, with another request, what is drawn."""
        client, saves = self._client, self._request.saves
        document: Document
        match self._request.query:
            case ClassifyQuery(top_k=top_k, model=model):
                return PredictAnswer(await client.classify(body, top_k=top_k, model=model), None)
            case SegmentQuery(mask=mask, view=view) as query:
                options = query.model_dump(exclude={"timeout", "mask", "view"})
                document = await client.segment(body, mask=mask, **options)
                return PredictAnswer(
                    document,
                    await client.segment_picture(body, view=view, **options) if saves else None,
                )
            case DetectQuery() as query:
                options = query.model_dump(exclude={"timeout"})
                document = await client.detect(body, **options)
                return PredictAnswer(
                    document, await client.detect_picture(body, **options) if saves else None
                )
            case EmbedQuery() as query:
                options = query.model_dump(exclude={"timeout"})
                return PredictAnswer(await client.embed(body, **options), None)
            case ExplainQuery(class_id=class_ids, view=view) as query:
                options = {"class_ids": class_ids} if class_ids else {"top_k": query.top_k}
                options["model"] = query.model
                document = await client.explain(body, **options)
                return PredictAnswer(
                    document,
                    await client.explain_picture(body, view=view, **options) if saves else None,
                )


def _failure_of(error: ClientError) -> Failure:
    match error:
        case ProblemError(problem=problem):
            return Failure(problem.type.rpartition(":")[2], problem.detail)
        case TooLateError():
            return Failure("too-late", str(error))
        case UnexpectedAnswerError():
            return Failure("unexpected-answer", str(error))
        case _:
            return Failure("unreachable", str(error))

"""The engine's view of the HTTP workers: their liveness, and every message to them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service import metrics, tracing
from service.api.errors import (
    DeadlineExceededError,
    InferenceError,
    NotReadyError,
    ServiceError,
)
from service.engine.batches import Input
from service.engine.device import Identity, JournalEntry
from service.engine.scheduling.queues import Batch
from service.engine.scheduling.scheduler import Scheduler
from service.link.messages import (
    Answer,
    CostInfo,
    Crash,
    ModelInfo,
    Refusal,
    Returned,
    Submit,
    ToWorker,
    Welcome,
)
from service.link.sockets import LinkServer, header_of
from service.tracing import SpanPhase

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from model.inference.predictor import Image

SUSPICIOUS_SECONDS = 1.0
"""A worker greets more often than this; a longer silence makes the engine probe it."""


@dataclass(frozen=True)
class Work:
    """The engine's data of a request, opaque to the scheduler."""

    worker: bytes
    submit: Submit
    image: Image

    @property
    def identity(self) -> Identity:
        """Identity of the request."""
        return self.worker, self.submit.request_id

    @property
    def input(self) -> Input:
        """Its input to a batch."""
        submit = self.submit
        return Input(
            self.image, submit.original_size, submit.layer, submit.class_ids, submit.logits
        )


class Workers:
    """Sends the HTTP workers the engine's offer and the outcome of their requests.

    Args:
        server: the link to them.
        scheduler: source of the load figures in each message.
        incarnation: the engine's.
        crashed_batch: the batch during which the engine's predecessor died, if there was one.
        on_gone: called with the name of a worker that is gone.
    """

    def __init__(
        self,
        server: LinkServer,
        scheduler: Scheduler[Work],
        incarnation: str,
        crashed_batch: JournalEntry | None,
        on_gone: Callable[[bytes], None],
    ) -> None:
        self._server = server
        self._scheduler = scheduler
        self._incarnation = incarnation
        self._crashed_batch = crashed_batch
        self._models: tuple[ModelInfo, ...] = ()
        self._offered: set[tuple[str, str | None]] = set()
        self._on_gone = on_gone
        self._heard: dict[bytes, float] = {}

    @property
    def ready(self) -> bool:
        """Whether the engine is warm and its workers know it."""
        return bool(self._models)

    def announce(self, models: tuple[ModelInfo, ...]) -> None:
        """Tell all of them that the engine is warm."""
        self._models = models
        self._offered = {(model.name, model.weights_sha256) for model in models}
        for worker in list(self._heard):
            self._send(worker, (self._welcome(worker), ()))

    def check_offered(self, submit: Submit) -> None:
        """Check that a request is for weights that are served.

        An engine that was started again may have found other weights in a model's file; the request
        was prepared for those before, and its answer would be described as theirs.

        Raises:
            NotReadyError: if they are not.
        """
        if (submit.operation.model, submit.weights_sha256) not in self._offered:
            raise NotReadyError(
                f"{submit.operation.model} was replaced meanwhile; send the request again.",
                retry_after_seconds=1.0,
            )

    def heard(self, worker: bytes) -> None:
        """Record that a worker sent something."""
        self._heard[worker] = time.monotonic()

    async def watch(self) -> None:
        """Look for workers that are gone, until cancelled.

        A silent one is sent a message, which fails only if it is gone and not just slow.
        """
        while True:
            await asyncio.sleep(SUSPICIOUS_SECONDS / 2)
            silent_since = time.monotonic() - SUSPICIOUS_SECONDS
            for worker, moment in list(self._heard.items()):
                if moment < silent_since:
                    self._send(worker, (self._welcome(worker), ()))

    def greet(self, worker: bytes) -> None:
        """Send a worker the engine's offer."""
        self._send(worker, (self._welcome(worker), ()))

    def give_back(self, worker: bytes, submit: Submit) -> None:
        """Return a request; the worker sends it again once the engine is warm."""
        self._send(worker, (Returned(submit.request_id), ()))

    def refuse(
        self, worker: bytes, submit: Submit, error: ServiceError, *, arrived: float | None = None
    ) -> None:
        """Reject a request.

        Args:
            worker: the request's sender.
            submit: the request.
            error: the reason.
            arrived: moment of its admission; None if it was not admitted.
        """
        trace_unanswered(submit, arrived, error.slug)
        refusal = Refusal(submit.request_id, error.slug, error.detail, error.retry_after_seconds)
        self._send(worker, (refusal, ()))

    def refuse_expired(self) -> None:
        """Reject the waiting requests whose deadline has passed."""
        for request in self._scheduler.expire():
            submit = request.payload.submit
            error = DeadlineExceededError(timeout_seconds=submit.timeout_seconds)
            self.refuse(request.payload.worker, submit, error, arrived=request.arrived)

    def answer(
        self,
        batch: Batch[Work],
        results: Sequence[tuple[NDArray[Any], ...] | None],
        *,
        started: float,
        network_seconds: float,
        device_seconds: float,
    ) -> None:
        """Send the results of a batch.

        Args:
            batch: the batch.
            results: one for each request, in order; None where the network's output is not finite.
            started: moment at which it began on the device.
            network_seconds: the network's part of ``device_seconds``.
            device_seconds: time that it occupied the device.
        """
        pending_work_seconds = self._scheduler.pending_work_seconds()
        wait_seconds = self._scheduler.wait_seconds()
        answers: dict[bytes, list[tuple[ToWorker, Sequence[NDArray[Any]]]]] = {}
        for request, result in zip(batch.requests, results, strict=True):
            worker, submit = request.payload.worker, request.payload.submit
            if result is None:
                metrics.NOT_FINITE.labels(*batch.queue.operation).inc()
                error = InferenceError("The network's output for this image is not usable.")
                self.refuse(worker, submit, error, arrived=request.arrived)
                continue
            answer = Answer(
                request_id=submit.request_id,
                arrays=tuple(header_of(array) for array in result),
                queue_seconds=started - request.arrived,
                inference_seconds=device_seconds,
                batch_size=len(batch.requests),
                pending_work_seconds=pending_work_seconds,
                wait_seconds=wait_seconds,
            )
            trace_answered(
                submit,
                arrived=request.arrived,
                started=started,
                network_seconds=network_seconds,
                device_seconds=device_seconds,
                batch_size=len(batch.requests),
            )
            answers.setdefault(worker, []).append((answer, result))
        for worker, messages in answers.items():
            self._send(worker, *messages)

    def _send(self, worker: bytes, *messages: tuple[ToWorker, Sequence[NDArray[Any]]]) -> None:
        reached = self._server.send(worker, *messages)
        if not reached and self._heard.pop(worker, None) is not None:
            self._on_gone(worker)

    def _welcome(self, worker: bytes) -> Welcome:
        costs = tuple(
            CostInfo(key.operation, key.input_size, cost.fixed_seconds, cost.per_image_seconds)
            for key, cost in self._scheduler.costs.items()
            if cost.known
        )
        crash = None
        if (flight := self._crashed_batch) is not None:
            request_ids = tuple(number for name, number in flight.requests if name == worker)
            crash = Crash(flight.incarnation, request_ids)
        return Welcome(
            incarnation=self._incarnation,
            ready=self.ready,
            models=self._models,
            costs=costs,
            pending_work_seconds=self._scheduler.pending_work_seconds(),
            wait_seconds=self._scheduler.wait_seconds(),
            crash=crash,
        )


WITHDRAWN = "withdrawn"
"""Reason of a request whose client left while it waited; other reasons are errors' slugs."""


def trace_answered(
    submit: Submit,
    *,
    arrived: float,
    started: float,
    network_seconds: float,
    device_seconds: float,
    batch_size: int,
) -> None:
    """Record a request that was in a batch.

    Args:
        submit: the request.
        arrived: moment of its admission.
        started: moment at which its batch began on the device.
        network_seconds: the network's part of ``device_seconds``.
        device_seconds: time that the batch occupied the device.
        batch_size: requests in the batch.
    """
    network_done, done = started + network_seconds, started + device_seconds
    tracing.record(
        "engine",
        arrived,
        time.monotonic(),
        within=submit.traceparent,
        phases=(
            SpanPhase("queue", arrived, started),
            SpanPhase("device", started, network_done),
            SpanPhase("postprocess", network_done, done),
        ),
        batch_size=batch_size,
        model=submit.operation.model,
        task=submit.operation.task,
    )


def trace_unanswered(submit: Submit, arrived: float | None, reason: str) -> None:
    """Record a request that gets no result.

    Args:
        submit: the request.
        arrived: moment of its admission; None if it was not admitted.
        reason: an error's slug, or ``WITHDRAWN``.
    """
    now = time.monotonic()
    began = now if arrived is None else arrived
    tracing.record("engine", began, now, within=submit.traceparent, error=reason)

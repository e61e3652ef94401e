"""The frame of every call: key, message, id, deadline, log, counts, span, and errors as statuses.

To gRPC each method takes a stream of messages, which looks the same on the wire: so a call is
judged before its message is received, and its message when there is memory for it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import grpc
from google.protobuf.message import DecodeError, Message

from service import metrics, tracing
from service.api.errors import (
    BodyTooLargeError,
    DeadlineExceededError,
    MalformedRequestError,
    MemoryFullError,
    ServiceError,
    UnauthorizedError,
)
from service.web.grpc.receiving import MessageReceiver
from service.web.grpc.statuses import OF_THE_SERVICE, code_of
from service.web.grpc.wire import check_wire
from service.web.http.middleware import (
    CLIENT_CLOSED_REQUEST,
    count_cancelled,
    count_request,
    log_request,
    request_id_of,
    server_timing,
)
from service.web.http.open_connections import MAX_UNSENT_BYTES
from service.web.tracebacks import release

if TYPE_CHECKING:
    from service.web.http.api_keys import ApiKeys
    from service.web.http.middleware import RequestsUnderWay

    Context = grpc.aio.ServicerContext[bytes, bytes]

MAX_DETAILS = 2000
"""Characters of an error's detail that are sent: clients take few bytes of metadata."""

REFUSED_SECONDS = 0.1
"""Seconds in which gRPC cancels a call whose message it has refused as too large."""

logger = logging.getLogger(__name__)


@dataclass
class UnaryCall:
    """A call under way.

    Attributes:
        request_id: the caller's, or a new one.
        began: monotonic moment of its arrival.
        timeout_seconds: the caller's, by gRPC's own deadline; None if it states none.
        body_bytes: size of its message, once it has arrived.
        stages: seconds that each stage took, filled on the way.
        model: name of the model that was asked, once it is known.
        key_name: of the caller's key.
        headers: of the answer, sent behind it as trailing metadata.
        refusal: why gRPC has refused its message, if it has.
    """

    request_id: str
    began: float
    timeout_seconds: float | None
    body_bytes: int = 0
    stages: dict[str, float] = field(default_factory=dict)
    model: str | None = None
    key_name: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    refusal: ServiceError | None = None

    @property
    def left_seconds(self) -> float | None:
        """Time to the caller's deadline, which may have passed; None if it states none."""
        if self.timeout_seconds is None:
            return None
        return self.began + self.timeout_seconds - time.monotonic()

    def missed_deadline(self) -> DeadlineExceededError | None:
        """Return the error of a call whose deadline has passed, else None."""
        if self.timeout_seconds is None or time.monotonic() < self.began + self.timeout_seconds:
            return None
        return DeadlineExceededError(timeout_seconds=self.timeout_seconds)


@dataclass(frozen=True)
class UnaryMethod:
    """A method of the service.

    Attributes:
        name: the standard's.
        request: class of its message.
        run: answers a call.
        is_probe: whether it needs no key, and gets no line in the log.
    """

    name: str
    request: type[Message]
    run: Callable[[UnaryCall, Any], Awaitable[Message]]
    is_probe: bool = False


class UnaryFrame:
    """What every call of a service goes through.

    Args:
        service: full name of the service.
        receiver: of the worker's messages.
        under_way: counts the worker's tasks.
        keys: that open the methods; None where none is needed.
        max_message_bytes: gRPC's own limit, for the detail of an error.
        receive_seconds: longest time that a message may take where the caller states no deadline.
    """

    def __init__(
        self,
        service: str,
        receiver: MessageReceiver,
        under_way: RequestsUnderWay,
        keys: ApiKeys | None,
        *,
        max_message_bytes: int,
        receive_seconds: float,
    ) -> None:
        self._service = service
        self._receiver = receiver
        self._under_way = under_way
        self._keys = keys
        self._max_message_bytes = max_message_bytes
        self._receive_seconds = receive_seconds
        self._unsent_bytes = 0

    def handler(self, method: UnaryMethod) -> grpc.RpcMethodHandler[bytes, bytes]:
        """Return gRPC's handler of a method."""

        async def handle(_: object, context: Context) -> bytes:
            return await self._serve(method, context)

        return grpc.stream_unary_rpc_method_handler(handle)

    async def _serve(self, method: UnaryMethod, context: Context) -> bytes:
        """Serve one call; a failure ends it with a status and without an answer."""
        metadata = _texts(context.invocation_metadata())
        call = UnaryCall(
            request_id_of(value for name, value in metadata.items() if name == "x-request-id"),
            time.monotonic(),
            context.time_remaining(),
        )
        error: ServiceError | None = None
        status = 200
        attributes = {"rpc.system": "grpc", "rpc.service": self._service, "rpc.method": method.name}
        metrics.IN_FLIGHT.inc()
        with tracing.server_span(f"{self._service}/{method.name}", metadata, attributes):
            tracing.describe(request_id=call.request_id)
            try:
                with self._under_way.entered():
                    answer = await self._answer(method, call, metadata, context)
            except asyncio.CancelledError as cancelled:
                release(cancelled)
                # Its client knows: it has left, or gRPC itself has ended the call.
                error = call.refusal or call.missed_deadline()
                if error is None:
                    status = CLIENT_CLOSED_REQUEST
                    count_cancelled(call.stages)
                raise
            except ServiceError as failure:
                release(failure)
                error = failure
            except Exception as failure:
                logger.exception(
                    "A call failed unexpectedly.", extra={"request_id": call.request_id}
                )
                release(failure)
                error = ServiceError("The failure was logged under the request id.")
            finally:
                metrics.IN_FLIGHT.dec()
                status = status if error is None else error.status
                self._record(method, call, status, error, context)
        context.set_trailing_metadata(_trailers(call, error))
        if error is not None:
            await context.abort(code_of(error.status), error.detail[:MAX_DETAILS])
        return answer

    async def _answer(
        self, method: UnaryMethod, call: UnaryCall, metadata: Mapping[str, str], context: Context
    ) -> bytes:
        if self._keys is not None and not method.is_probe:
            call.key_name = _key_name(self._keys, metadata)
        if self._unsent_bytes > MAX_UNSENT_BYTES and not method.is_probe:
            raise ServiceError.rebuilt(
                MemoryFullError.slug,
                f"Answers of {self._unsent_bytes} bytes wait for clients that do not read them; "
                f"the limit is {MAX_UNSENT_BYTES} bytes.",
                1.0,
            )
        # A probe says nothing, and so holds no place while it is received.
        request = (
            method.request() if method.is_probe else await self._received(method, call, context)
        )
        answer = (await method.run(call, request)).SerializeToString()
        self._count_unsent(len(answer), context)
        return answer

    def _count_unsent(self, size_bytes: int, context: Context) -> None:
        """Count an answer until gRPC has sent it, which lasts while its client does not read."""

        def sent(_: object) -> None:
            self._unsent_bytes -= size_bytes

        self._unsent_bytes += size_bytes
        context.add_done_callback(sent)  # type: ignore[arg-type]  # the stubs ask for more

    async def _received(self, method: UnaryMethod, call: UnaryCall, context: Context) -> Message:
        """Receive a call's message and parse it.

        Raises:
            DeadlineExceededError: if it does not arrive in time.
            CancelledError: if gRPC refuses it, which ``call`` then says.
            MalformedRequestError: if there is none, or it cannot be parsed.
        """
        try:
            async with asyncio.timeout(self._receive_seconds):
                body = await self._receiver.receive(context.read)
        except TimeoutError:
            raise DeadlineExceededError(timeout_seconds=self._receive_seconds) from None
        if not isinstance(body, bytes):
            call.refusal = BodyTooLargeError(limit_bytes=self._max_message_bytes)
            await asyncio.sleep(REFUSED_SECONDS)
            call.refusal = None
            raise MalformedRequestError("The call has no message.")
        now = time.monotonic()
        call.stages["read"] = now - call.began
        tracing.record("read", call.began, now)
        call.body_bytes = len(body)
        check_wire(method.request.DESCRIPTOR, body)  # type: ignore[arg-type]  # protobuf has two kinds
        try:
            return method.request.FromString(body)
        except DecodeError as error:
            raise MalformedRequestError(f"The message is no {method.request.__name__}.") from error

    def _record(
        self,
        method: UnaryMethod,
        call: UnaryCall,
        status: int,
        error: ServiceError | None,
        context: Context,
    ) -> None:
        """Count and log a call that has ended, and conclude its span."""
        route = f"/{self._service}/{method.name}"
        seconds = time.monotonic() - call.began
        count_request(route, status, seconds)
        if error is not None:
            metrics.REJECTED.labels(error.slug).inc()
            tracing.describe(problem=error.slug)
        code = code_of(status)
        tracing.conclude({"rpc.grpc.status_code": code.value[0]}, failed=code in OF_THE_SERVICE)
        if not method.is_probe:
            log_request(
                "gRPC",
                route,
                status=status,
                seconds=seconds,
                client=_address(context.peer()),
                request_id=call.request_id,
                stages=call.stages,
                model=call.model,
                key=call.key_name,
            )


def _texts(metadata: grpc.aio.Metadata | None) -> dict[str, str]:
    return {key: value for key, value in metadata or () if isinstance(value, str)}


def _key_name(keys: ApiKeys, metadata: Mapping[str, str]) -> str:
    scheme, _, bearer = metadata.get("authorization", "").partition(" ")
    key = bearer.strip() if scheme.lower() == "bearer" else metadata.get("x-api-key")
    if not key:
        raise UnauthorizedError("Send the metadata authorization: Bearer and a key, or x-api-key.")
    name = keys.name_of(key)
    if name is None:
        raise UnauthorizedError("The key is unknown.")
    return name


def _trailers(call: UnaryCall, error: ServiceError | None) -> tuple[tuple[str, str], ...]:
    """Return what HTTP's headers say, as metadata behind the answer."""
    total = {"total": time.monotonic() - call.began}
    trailers = {
        **{name.lower(): value for name, value in call.headers.items()},
        "x-request-id": call.request_id,
        "server-timing": server_timing(call.stages | total),
    }
    if error is not None:
        trailers["problem-type"] = f"urn:overlock:problem:{error.slug}"
        if error.retry_after_seconds is not None:
            trailers["retry-after"] = str(max(math.ceil(error.retry_after_seconds), 1))
    return tuple(trailers.items())


def _address(peer: str) -> str:
    """Return the address in gRPC's name of a client, such as ``ipv6:%5B::1%5D:50051``."""
    address = unquote(peer).partition(":")[2].rpartition(":")[0]
    return address.strip("[]").removeprefix("::ffff:")

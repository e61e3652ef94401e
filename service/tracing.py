"""OpenTelemetry traces, switched on by OpenTelemetry's own variables and sent by each process.

FastAPI makes the span of a request; this file adds the spans within it, from moments that are
measured anyway. OpenTelemetry is imported only when tracing is on: see docs/adr/0019-tracing.md.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, NamedTuple

from model.remote.extras import install_extra
from service.release import release
from service.settings import SettingsError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.trace import Tracer

FLUSH_SECONDS = 0.5
"""Seconds in which an ending process may send its last spans; an engine has a second to end in."""

DEFAULT_ENDPOINT = "http://localhost:4318"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")

EXPORTER_PACKAGE = "opentelemetry-exporter-otlp-proto-http"

_provider: TracerProvider | None = None
_tracer: Tracer | None = None


class SpanPhase(NamedTuple):
    """A phase of a span, recorded as its child.

    Attributes:
        name: such as "queue".
        began: monotonic moment.
        ended: monotonic moment.
    """

    name: str
    began: float
    ended: float


def destination(environment: Mapping[str, str]) -> str | None:
    """Return the URL that traces are sent to; None if tracing is off.

    Args:
        environment: variables, OpenTelemetry's among them.

    Raises:
        SettingsError: if they name an unsupported exporter, URL or protocol, or if OpenTelemetry is
            not installed.
    """
    exporter = environment.get("OTEL_TRACES_EXPORTER")
    name, endpoint = _first(environment, *_ENDPOINTS)
    disabled = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if disabled or exporter == "none" or not (exporter or endpoint):
        return None
    if exporter not in {None, "", "otlp"}:
        raise SettingsError(f"OTEL_TRACES_EXPORTER: give otlp or none (it is {exporter!r})")
    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise SettingsError(f"{name}: give an http or https URL (it is {endpoint!r})")
    name_of_protocol, protocol = _first(environment, *_PROTOCOLS)
    if protocol not in {None, "http/protobuf"}:
        raise SettingsError(f"{name_of_protocol}: give http/protobuf (it is {protocol!r})")
    url = endpoint or DEFAULT_ENDPOINT
    if name != _ENDPOINTS[0]:
        url = f"{url.removesuffix('/')}/v1/traces"
    try:
        version(EXPORTER_PACKAGE)
    except PackageNotFoundError:
        raise SettingsError(
            f"Traces would be sent to {url}, but OpenTelemetry is not installed: "
            f"{install_extra('otel')}; or unset the OTEL_ variables, or set OTEL_SDK_DISABLED=true"
        ) from None
    return url


def start(process: str, environment: Mapping[str, str]) -> None:
    """Send this process's spans to the environment's destination, if it names one.

    Args:
        process: name of this process, such as "http-0".
        environment: variables, OpenTelemetry's among them.

    Raises:
        SettingsError: see ``destination``.
    """
    url = destination(environment)
    if url is None:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    start_with(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)), process)


def start_with(processor: SpanProcessor, process: str) -> None:
    """Pass this process's spans to a processor."""
    global _provider, _tracer
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider

    own = {
        "service.name": "overlock-service",
        "service.version": release(),
        "overlock.process": process,
    }
    # In `create` alone, these would win over OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES.
    resource = Resource.create(own).merge(OTELResourceDetector().detect())
    # Its own shutdown at exit would wait for a collector that does not answer.
    _provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    _provider.add_span_processor(processor)
    _tracer = _provider.get_tracer("overlock-service", release())


def stop() -> None:
    """Send the remaining spans, for at most ``FLUSH_SECONDS``."""
    global _provider, _tracer
    if _provider is None:
        return
    sending = threading.Thread(target=_provider.shutdown, daemon=True)
    _provider = _tracer = None
    sending.start()
    sending.join(FLUSH_SECONDS)


def provider() -> TracerProvider | None:
    """Return the tracer provider for FastAPI's spans; None if tracing is off."""
    return _provider


@contextmanager
def server_span(
    name: str, headers: Mapping[str, str], attributes: Mapping[str, str]
) -> Iterator[None]:
    """Make the block the span of a request that FastAPI does not see.

    Args:
        name: of the span.
        headers: the caller's, with a ``traceparent`` where the request belongs to a trace.
        attributes: of the span.
    """
    if _tracer is None:
        yield
        return
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    with _tracer.start_as_current_span(
        name,
        TraceContextTextMapPropagator().extract(headers),
        SpanKind.SERVER,
        attributes,
        record_exception=False,
        set_status_on_exception=False,
    ):
        yield


def conclude(attributes: Mapping[str, int], *, failed: bool) -> None:
    """Add the outcome to the current span of ``server_span``.

    Args:
        attributes: of the span.
        failed: whether it ended with a failure of the service.
    """
    if _tracer is None:
        return
    from opentelemetry.trace import Status, StatusCode, get_current_span

    span = get_current_span()
    span.set_attributes(attributes)
    if failed:
        span.set_status(Status(StatusCode.ERROR))


def trace_id() -> str | None:
    """Return the id of the current request's trace; None if it is not traced."""
    header = traceparent()
    return None if header is None else header.split("-")[1]


def traceparent() -> str | None:
    """Return the W3C traceparent of the current span, for another process's spans to join.

    None if there is no span, or if the caller or the sampler does not want the trace.
    """
    if _tracer is None or not _is_sampled():
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier["traceparent"]


def describe(**facts: str | int) -> None:
    """Add attributes to the current request's span."""
    if _tracer is None:
        return
    from opentelemetry.trace import get_current_span

    span = get_current_span()
    if span.is_recording():
        span.set_attributes({f"overlock.{name}": value for name, value in facts.items()})


def record(
    name: str,
    began: float,
    ended: float,
    *,
    within: str | None = None,
    phases: Sequence[SpanPhase] = (),
    error: str | None = None,
    **facts: str | int,
) -> None:
    """Add a finished span to a trace; do nothing without a trace.

    Args:
        name: of the span.
        began: monotonic moment.
        ended: monotonic moment.
        within: the ``traceparent`` of the parent span; by default the current one.
        phases: children of the new span.
        error: slug of the error that the span ended with.
        facts: attributes.
    """
    if _tracer is None:
        return
    from opentelemetry.trace import Status, StatusCode, set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    parent = None
    if within is not None:
        parent = TraceContextTextMapPropagator().extract({"traceparent": within})
    if not _is_sampled(parent):
        return
    # Spans carry the time of day; moments are monotonic.
    epoch_offset_ns = time.time_ns() - time.monotonic_ns()

    def time_of(moment: float) -> int:
        return epoch_offset_ns + int(moment * 1e9)

    attributes = {f"overlock.{fact}": value for fact, value in facts.items()}
    span = _tracer.start_span(name, parent, attributes=attributes, start_time=time_of(began))
    for phase in phases:
        child = _tracer.start_span(
            phase.name, set_span_in_context(span), start_time=time_of(phase.began)
        )
        child.end(time_of(phase.ended))
    if error is not None:
        span.set_attribute("error.type", error)
        span.set_status(Status(StatusCode.ERROR))
    span.end(time_of(ended))


def _first(environment: Mapping[str, str], *names: str) -> tuple[str | None, str | None]:
    """Return the first variable of several that is set, and its value."""
    return next(
        ((name, environment[name]) for name in names if environment.get(name)), (None, None)
    )


def _is_sampled(context: Context | None = None) -> bool:
    from opentelemetry.trace import get_current_span

    current = get_current_span(context).get_span_context()
    return current.is_valid and current.trace_flags.sampled

"""OpenTelemetry traces, where its own variables ask for them; of each process, as logs are.

FastAPI makes the span of a request, and this file those within it, from moments that are measured
anyway. OpenTelemetry is imported when tracing is on and not before: see docs/adr/0019-tracing.md.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, NamedTuple

from service.release import release
from service.settings import SettingsError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.trace import Tracer

FLUSH_SECONDS = 0.5
"""How long a process that ends may take for the spans it still has; an engine gets a second."""

DEFAULT_ENDPOINT = "http://localhost:4318"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")

EXPORTER_PACKAGE = "opentelemetry-exporter-otlp-proto-http"
INSTALL = "pip install 'overlock-service[otel]'"

_provider: TracerProvider | None = None
_tracer: Tracer | None = None


class SpanPhase(NamedTuple):
    """A part of a span.

    Attributes:
        name: such as "queue".
        began: monotonic moment.
        ended: the same.
    """

    name: str
    began: float
    ended: float


def destination(environment: Mapping[str, str]) -> str | None:
    """Return the URL that traces are sent to; None if nobody asks for any.

    Args:
        environment: with OpenTelemetry's variables.

    Raises:
        SettingsError: if they ask for what is not there.
    """
    exporter = environment.get("OTEL_TRACES_EXPORTER")
    name, endpoint = _first(environment, *_ENDPOINTS)
    disabled = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if disabled or exporter == "none" or not (exporter or endpoint):
        return None
    if exporter not in {None, "", "otlp"}:
        raise SettingsError(f"OTEL_TRACES_EXPORTER: there are otlp and none (it is {exporter!r})")
    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise SettingsError(f"{name}: give an http or https URL (it is {endpoint!r})")
    name_of_protocol, protocol = _first(environment, *_PROTOCOLS)
    if protocol not in {None, "http/protobuf"}:
        raise SettingsError(f"{name_of_protocol}: there is http/protobuf (it is {protocol!r})")
    url = endpoint or DEFAULT_ENDPOINT
    if name != _ENDPOINTS[0]:
        url = f"{url.removesuffix('/')}/v1/traces"
    try:
        version(EXPORTER_PACKAGE)
    except PackageNotFoundError:
        raise SettingsError(
            f"Traces are to go to {url}, but OpenTelemetry is not installed: {INSTALL}, "
            "or unset the OTEL_ variables or set OTEL_SDK_DISABLED=true"
        ) from None
    return url


def start(process: str, environment: Mapping[str, str]) -> None:
    """Send this process's spans wherever the environment says, if it does.

    Args:
        process: which one this is, such as "http-0".
        environment: with OpenTelemetry's variables.

    Raises:
        SettingsError: as ``destination``.
    """
    url = destination(environment)
    if url is None:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    start_with(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)), process)


def start_with(processor: SpanProcessor, process: str) -> None:
    """Have a processor take this process's spans."""
    global _provider, _tracer
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider

    own = {
        "service.name": "overlock-service",
        "service.version": release(),
        "overlock.process": process,
    }
    # Of `create`, what it is given wins over OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES.
    resource = Resource.create(own).merge(OTELResourceDetector().detect())
    # At exit it would wait for a collector that does not answer.
    _provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    _provider.add_span_processor(processor)
    _tracer = _provider.get_tracer("overlock-service", release())


def stop() -> None:
    """Send what there still is, as far as that is quick."""
    global _provider, _tracer
    if _provider is None:
        return
    sending = threading.Thread(target=_provider.shutdown, daemon=True)
    _provider = _tracer = None
    sending.start()
    sending.join(FLUSH_SECONDS)


def provider() -> TracerProvider | None:
    """Return what FastAPI makes its spans with; None if tracing is off."""
    return _provider


def trace_id() -> str | None:
    """Return the id of the trace that the current request is sent with; None if it is not."""
    header = traceparent()
    return None if header is None else header.split("-")[1]


def traceparent() -> str | None:
    """Return what makes another process's spans part of the current one, as W3C's header does.

    None if there is none, or if the caller or the sampler does not want the trace.
    """
    if _tracer is None or not _is_sampled():
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier["traceparent"]


def describe(**facts: str | int) -> None:
    """Say something of the current request on its span."""
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
    parts: Sequence[SpanPhase] = (),
    error: str | None = None,
    **facts: str | int,
) -> None:
    """Add what has happened to a trace; do nothing where there is none.

    Args:
        name: the span's.
        began: monotonic moment.
        ended: the same.
        within: the ``traceparent`` of the span that it is a part of; by default the current one.
        parts: its own.
        error: the slug of what made it fail.
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
    # Spans have the time of day, moments do not.
    epoch_offset_ns = time.time_ns() - time.monotonic_ns()

    def time_of(moment: float) -> int:
        return epoch_offset_ns + int(moment * 1e9)

    attributes = {f"overlock.{fact}": value for fact, value in facts.items()}
    span = _tracer.start_span(name, parent, attributes=attributes, start_time=time_of(began))
    for part in parts:
        inner = _tracer.start_span(
            part.name, set_span_in_context(span), start_time=time_of(part.began)
        )
        inner.end(time_of(part.ended))
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

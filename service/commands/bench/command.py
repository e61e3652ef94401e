"""``overlock bench``."""

from __future__ import annotations

import argparse
import json
import ssl
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import uvloop

from model.config import Task
from service.client import Client
from service.commands.bench.arguments import fill_parser, loads_of, timeout_of
from service.commands.bench.connection import Endpoint
from service.commands.bench.generator import LoadGenerator, WrongAnswerError
from service.commands.bench.loads import LoadResult, summarize
from service.commands.bench.protocols import (
    RequestSpec,
    WorkOrder,
    check_answer,
    grpc_requests,
    v1_requests,
    v2_requests,
)
from service.commands.bench.sample_image import draw_photograph
from service.commands.console.exits import DONE, FAILED, RefusedError, print_error
from service.commands.console.remote_options import api_key_of, models_for
from service.commands.console.table import Table

__all__ = ["fill_parser", "run"]

GRACE_SECONDS = 1.0
"""Extra wait for answers that are in transit when the timeout passes."""

LATE_SECONDS = 0.005
"""A generator that sends later than this, at the 99th percentile, is too slow for its load."""

COLUMNS = [
    ("loop", 6),
    ("level", -8),
    ("offered/s", -9),
    ("answered/s", -10),
]
IMAGES_COLUMN = ("images/s", -8)
"""Shown if a request has several images."""

OUTCOME_COLUMNS = [
    ("p50 ms", -9),
    ("p90 ms", -9),
    ("p99 ms", -9),
    ("refused", -7),
    ("failed", -7),
]


def run(arguments: argparse.Namespace) -> int:
    """Offer the service every load."""
    loads = list(loads_of(arguments))
    timeout_seconds = timeout_of(arguments)
    answer_seconds = timeout_seconds + GRACE_SECONDS
    spec = _requests(arguments, api_key_of(arguments), timeout_seconds)
    if arguments.protocol != "v1":
        uvloop.run(check_answer(spec, answer_seconds))
    generator = LoadGenerator(spec.target, [spec.payload], answer_seconds=answer_seconds)
    images_column = [IMAGES_COLUMN] if spec.images > 1 else []
    table, code = Table([*COLUMNS, *images_column, *OUTCOME_COLUMNS]), DONE
    for load in loads:
        try:
            measured = summarize(load, uvloop.run(load.offer(generator)))
        except WrongAnswerError as error:
            raise RefusedError(str(error)) from error
        if arguments.json:
            sys.stdout.write(json.dumps(asdict(measured)) + "\n")
        else:
            table.write(_cells(measured))
        sys.stdout.flush()
        code = FAILED if measured.failed_fraction else code
        _warn_if_late(measured)
    return code


def _image(path: Path | None) -> bytes:
    return draw_photograph(np.random.default_rng(0)) if path is None else path.read_bytes()


def _requests(
    arguments: argparse.Namespace, key: str | None, timeout_seconds: float
) -> RequestSpec:
    """Return the requests by the chosen protocol; print the models that are measured.

    Raises:
        ClientError: if the service does not answer the image.
        RefusedError: if it does not serve the task.
    """
    file = _image(arguments.image)
    name = _check_service(arguments, key, file, timeout_seconds)
    order = WorkOrder(Task(arguments.task), name, file, arguments.images, timeout_seconds)
    service = _service(arguments.url, key)
    if arguments.protocol == "grpc":
        return grpc_requests(service, order, arguments.grpc_port)
    return (v1_requests if arguments.protocol == "v1" else v2_requests)(service, order)


def _check_service(
    arguments: argparse.Namespace, key: str | None, file: bytes, timeout_seconds: float
) -> str:
    """Check that the service answers the image; return its model's name.

    Raises:
        ClientError: if it does not.
        RefusedError: if it does not serve the task.
    """
    try:
        client = Client(arguments.url, api_key=key, timeout_seconds=timeout_seconds)
    except ValueError as error:
        raise RefusedError(str(error)) from error
    with client:
        served = models_for(arguments.task, client.models(), client.url, arguments.model)
        call: dict[str, Callable[..., object]] = {
            Task.CLASSIFY: client.classify,
            Task.SEGMENT: client.segment,
            Task.DETECT: client.detect,
        }
        call[arguments.task](file, model=arguments.model)
    for model in served:
        print_error(
            f"{arguments.task} with {model.name} ({model.weights}) on {model.device} "
            f"({model.device_name}), {model.dtype}; {len(file)} bytes an image"
        )
    return served[0].name


def _service(url: str, key: str | None) -> Endpoint:
    """Return the root of the service's routes."""
    parts = urlsplit(url)
    assert parts.hostname is not None, "the client has checked it"
    secure = parts.scheme == "https"
    return Endpoint(
        host=parts.hostname,
        port=parts.port or (443 if secure else 80),
        path=parts.path.rstrip("/"),
        tls=ssl.create_default_context() if secure else None,
        headers={} if key is None else {"Authorization": f"Bearer {key}"},
    )


def _cells(measured: LoadResult) -> list[str]:
    unit = "/s" if measured.loop == "open" else ""
    latencies = (measured.p50_seconds, measured.p90_seconds, measured.p99_seconds)
    return [
        measured.loop,
        f"{measured.level:g}{unit}",
        f"{measured.offered_per_second:.1f}",
        f"{measured.answered_per_second:.1f}",
        *([f"{measured.images_per_second:.1f}"] if measured.images > 1 else []),
        *("-" if seconds is None else f"{1e3 * seconds:.1f}" for seconds in latencies),
        f"{measured.refused_fraction:.1%}",
        f"{measured.failed_fraction:.1%}",
    ]


def _warn_if_late(measured: LoadResult) -> None:
    late_seconds = measured.late_p99_seconds
    if late_seconds is not None and late_seconds > LATE_SECONDS:
        print_error(
            f"{measured.loop} {measured.level:g}: requests were sent up to "
            f"{1e3 * late_seconds:.0f} ms late; this machine is too busy for this load."
        )

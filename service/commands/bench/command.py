"""``overlock bench``."""

from __future__ import annotations

import argparse
import json
import ssl
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from urllib.parse import quote, urlsplit

import numpy as np
import uvloop

from model.config import TRAINED_TASKS, Task
from service.api.queries import MAX_TIMEOUT_SECONDS
from service.client import Client
from service.client.base import DEFAULT_URL
from service.commands.bench.connection import Endpoint
from service.commands.bench.generator import MAX_CONNECTIONS, LoadGenerator, WrongAnswerError
from service.commands.bench.loads import ImagePayload, Load, LoadResult, summarize
from service.commands.bench.sample_image import draw_photograph
from service.commands.bench.summary import WARM_UP_SECONDS
from service.commands.console.exits import DONE, FAILED, RefusedError, print_error
from service.commands.console.option_words import TASK_HELP, URL_HELP
from service.commands.console.remote_options import (
    add_model_option,
    add_options,
    api_key_of,
    models_for,
)
from service.commands.console.table import Table

DESCRIPTION = f"""\
Load a running service and measure its throughput and latencies.

A closed loop keeps N requests in flight and measures the throughput. An open loop sends requests at
the moments of a Poisson process, however slow the service is, and counts a latency from the moment
at which the request was due: a stall counts for every request that was due meanwhile. The first
{WARM_UP_SECONDS:g} s of each load are not counted. Latencies are those of requests that were not
refused; one without an answer counts as infinite, "-".

Run it on another machine, or on other cores, than the service."""

EPILOG = """\
examples:
  overlock bench --url http://127.0.0.1:8000 --concurrency 1,8,32
  overlock bench --task segment --image street.jpg --rate 2,4 --seconds 60
"""

DEFAULT_CONCURRENCIES = (1.0, 8.0)
DEFAULT_TIMEOUT_SECONDS = 30.0
GRACE_SECONDS = 1.0
"""Extra wait for answers that are in transit when the timeout passes."""

LATE_SECONDS = 0.005
"""A generator that sends later than this, at the 99th percentile, is too slow for its load."""

COLUMNS = [
    ("loop", 6),
    ("level", -8),
    ("offered/s", -9),
    ("answered/s", -10),
    ("p50 ms", -9),
    ("p90 ms", -9),
    ("p99 ms", -9),
    ("refused", -7),
    ("failed", -7),
]


def fill_parser(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.usage = "overlock bench [--url URL] [options]"
    parser.description = DESCRIPTION
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--url", default=DEFAULT_URL, help=f"{URL_HELP} [{DEFAULT_URL}]")
    parser.add_argument(
        "--task",
        choices=[task.value for task in TRAINED_TASKS],
        default=Task.CLASSIFY.value,
        help=TASK_HELP,
        metavar="TASK",
    )
    add_model_option(parser)
    parser.add_argument(
        "--image", type=Path, metavar="FILE", help="image to send [a drawn JPEG of 640 by 480]"
    )
    parser.add_argument(
        "--concurrency",
        type=_levels,
        metavar="N,...",
        help="closed loops, one after the other [1,8 unless --rate is given]",
    )
    parser.add_argument("--rate", type=_levels, metavar="R,...", help="open loops, requests/s")
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="length of each load [10]", metavar="S"
    )
    add_options(
        parser,
        timeout_help=f"for the service to answer a request [{DEFAULT_TIMEOUT_SECONDS:g}]",
    )
    parser.add_argument(
        "--json", action="store_true", help="a line of JSON for each load [a table]"
    )


def run(arguments: argparse.Namespace) -> int:
    """Offer the service every load."""
    loads = list(_loads(arguments))
    timeout_seconds = _timeout_seconds(arguments)
    key = api_key_of(arguments)
    payload = ImagePayload(_image(arguments.image))
    _check_service(arguments, key, payload, timeout_seconds)
    generator = LoadGenerator(
        _target(arguments, key, timeout_seconds),
        [payload],
        answer_seconds=timeout_seconds + GRACE_SECONDS,
    )
    table, code = Table(COLUMNS), DONE
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


def _loads(arguments: argparse.Namespace) -> Iterator[Load]:
    seconds: float = arguments.seconds
    if not WARM_UP_SECONDS < seconds < float("inf"):
        raise RefusedError(
            f"--seconds is {seconds:g}; it has to be more than {WARM_UP_SECONDS:g}, the warm-up."
        )
    if arguments.concurrency is None and arguments.rate is None:
        arguments.concurrency = DEFAULT_CONCURRENCIES
    for level in arguments.concurrency or ():
        if not level.is_integer() or level > MAX_CONNECTIONS:
            raise RefusedError(
                f"--concurrency is {level:g}; it has to be whole and at most {MAX_CONNECTIONS}."
            )
        yield Load("closed", level, seconds)
    for level in arguments.rate or ():
        yield Load("open", level, seconds)


def _timeout_seconds(arguments: argparse.Namespace) -> float:
    seconds: float = arguments.timeout or DEFAULT_TIMEOUT_SECONDS
    if not 0 < seconds <= MAX_TIMEOUT_SECONDS:
        raise RefusedError(
            f"--timeout is {seconds:g}; it has to be above 0 and at most {MAX_TIMEOUT_SECONDS:g}."
        )
    return seconds


def _image(path: Path | None) -> bytes:
    return draw_photograph(np.random.default_rng(0)) if path is None else path.read_bytes()


def _check_service(
    arguments: argparse.Namespace, key: str | None, payload: ImagePayload, timeout_seconds: float
) -> None:
    """Check that the service answers the image; print the models that are measured.

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
        call[arguments.task](payload.body, model=arguments.model)
    for model in served:
        print_error(
            f"{arguments.task} with {model.name} ({model.weights}) on {model.device} "
            f"({model.device_name}), {model.dtype}; {len(payload.body)} bytes an image"
        )


def _target(arguments: argparse.Namespace, key: str | None, timeout_seconds: float) -> Endpoint:
    url = urlsplit(arguments.url)
    assert url.hostname is not None, "the client has checked it"
    secure = url.scheme == "https"
    headers: Mapping[str, str] = {} if key is None else {"Authorization": f"Bearer {key}"}
    model = "" if arguments.model is None else f"&model={quote(arguments.model)}"
    path = f"{url.path.rstrip('/')}/v1/{arguments.task}?timeout={timeout_seconds:g}{model}"
    return Endpoint(
        host=url.hostname,
        port=url.port or (443 if secure else 80),
        path=path,
        tls=ssl.create_default_context() if secure else None,
        headers=headers,
    )


def _cells(measured: LoadResult) -> list[str]:
    unit = "/s" if measured.loop == "open" else ""
    latencies = (measured.p50_seconds, measured.p90_seconds, measured.p99_seconds)
    return [
        measured.loop,
        f"{measured.level:g}{unit}",
        f"{measured.offered_per_second:.1f}",
        f"{measured.answered_per_second:.1f}",
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


def _levels(text: str) -> list[float]:
    try:
        levels = [float(part) for part in text.split(",")]
    except ValueError:
        levels = []
    if not levels or not all(0 < level < float("inf") for level in levels):
        raise argparse.ArgumentTypeError(f"{text!r} is not numbers above 0 like 1,8")
    return levels

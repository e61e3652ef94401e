"""Options of ``overlock bench``, and what they make of a load."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from model.config import TRAINED_TASKS, Task
from service.api.queries import MAX_TIMEOUT_SECONDS
from service.client.base import DEFAULT_URL
from service.commands.bench.generator import MAX_CONNECTIONS
from service.commands.bench.loads import Load
from service.commands.bench.protocols import MAX_IMAGES, ProtocolName
from service.commands.bench.summary import WARM_UP_SECONDS
from service.commands.console.exits import RefusedError
from service.commands.console.option_words import TASK_HELP, URL_HELP
from service.commands.console.remote_options import add_model_option, add_options

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
  overlock bench --protocol v2 --images 16 --concurrency 1
"""

DEFAULT_CONCURRENCIES = (1.0, 8.0)
DEFAULT_TIMEOUT_SECONDS = 30.0
DEFAULT_GRPC_PORT = 8001


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
    _add_protocol_options(parser)
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


def _add_protocol_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--protocol",
        choices=get_args(ProtocolName),
        default="v1",
        help="v1: the service's own routes; v2: the Open Inference Protocol with binary tensors; "
        "grpc: the same by gRPC [v1]",
    )
    parser.add_argument(
        "--images",
        type=int,
        default=1,
        metavar="N",
        help=f"images in a request, at most {MAX_IMAGES}; v1 takes one [1]",
    )
    parser.add_argument(
        "--grpc-port",
        type=int,
        default=DEFAULT_GRPC_PORT,
        metavar="PORT",
        help=f"of the gRPC service, on the host of --url [{DEFAULT_GRPC_PORT}]",
    )


def loads_of(arguments: argparse.Namespace) -> Iterator[Load]:
    """Return the loads, one after the other.

    Raises:
        RefusedError: if an option makes no sense.
    """
    _check_images(arguments)
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
        yield Load("closed", level, seconds, arguments.images)
    for level in arguments.rate or ():
        yield Load("open", level, seconds, arguments.images)


def timeout_of(arguments: argparse.Namespace) -> float:
    """Return the timeout of a request, seconds.

    Raises:
        RefusedError: if the service would not take it.
    """
    seconds: float = arguments.timeout or DEFAULT_TIMEOUT_SECONDS
    if not 0 < seconds <= MAX_TIMEOUT_SECONDS:
        raise RefusedError(
            f"--timeout is {seconds:g}; it has to be above 0 and at most {MAX_TIMEOUT_SECONDS:g}."
        )
    return seconds


def _check_images(arguments: argparse.Namespace) -> None:
    count: int = arguments.images
    if not 1 <= count <= MAX_IMAGES:
        raise RefusedError(f"--images is {count}; it has to be from 1 to {MAX_IMAGES}.")
    if count > 1 and arguments.protocol == "v1":
        raise RefusedError(f"--images is {count}, but --protocol v1 takes one image in a request.")
    if count > 1 and arguments.task != Task.CLASSIFY:
        raise RefusedError(f"--images is {count}, but only classify takes several in a request.")


def _levels(text: str) -> list[float]:
    try:
        levels = [float(part) for part in text.split(",")]
    except ValueError:
        levels = []
    if not levels or not all(0 < level < float("inf") for level in levels):
        raise argparse.ArgumentTypeError(f"{text!r} is not numbers above 0 like 1,8")
    return levels

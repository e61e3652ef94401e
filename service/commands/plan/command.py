"""``overlock plan``."""

from __future__ import annotations

import argparse
import json
import math
import sys

from tqdm import tqdm

from model.config import TRAINED_TASKS, Task
from service.api.schemas import ServedModel, ShapeCost
from service.client import Client
from service.client.base import DEFAULT_TIMEOUT_SECONDS
from service.commands.console.exits import DONE, RefusedError, print_error
from service.commands.console.option_words import TASK_HELP, URL_HELP
from service.commands.console.remote_options import (
    add_model_option,
    add_options,
    api_key_of,
    models_for,
)
from service.commands.plan.replica import ReplicaSetup, Target
from service.commands.plan.report import document, write_tables
from service.commands.plan.search import Demand, ImpossibleTargetError, make_plan, usable_limits
from service.engine.scheduling.cost_model import AffineCost
from service.settings import load_settings

DESCRIPTION = """\
Compute how many replicas a load needs, with which batch limit, and what they cost.

The input is the time that a batch of n images takes on the device, A + B n seconds: given, or
learnt by a running service (/v1/models). The service's own scheduler then runs on a virtual clock,
under a Poisson load that is spread over the replicas at random, as by Kubernetes; a replica has one
engine. Timeout and queue limit are the settings' (OVERLOCK_DEFAULT_TIMEOUT_SECONDS,
OVERLOCK_MAX_QUEUE_REQUESTS). Of the batch limits that need the fewest replicas, the smallest is
taken.

load is a replica's load relative to its throughput in full batches; busy is the part of the time
that its device works. It is near 1 long before the load is, since a free device takes any request
that waits.

Latencies are those of queue and device, and --overhead for all else: sending, decoding, answering.
HTTP workers, network, device memory and mixed image sizes are not simulated; docs/capacity.md says
how to account for them."""

EPILOG = """\
examples:
  overlock plan --rate 5000 --p99 0.2 --cost 0.005,0.0005 --price-per-hour 2.50
  overlock plan --rate 300 --p99 1 --url http://127.0.0.1:8000 --overhead 0.02 --json
"""

DEFAULT_BATCH_LIMIT = 64
MAX_BATCH_LIMIT = 256
"""Upper bound of the setting."""

DEFAULT_ANSWERED = 0.999
DEFAULT_MAX_LOAD = 0.9


def fill_parser(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.usage = "overlock plan --rate R --p99 SECONDS (--cost A,B | --url URL) [options]"
    parser.description = DESCRIPTION
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--rate", type=_positive, required=True, metavar="R", help="requests/s, all together"
    )
    parser.add_argument(
        "--p99",
        type=_positive,
        required=True,
        metavar="SECONDS",
        help="latency that 99%% of the answers must not exceed",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--cost", type=_cost, metavar="A,B", help="a batch of n takes A + B n seconds"
    )
    source.add_argument("--url", help=f"{URL_HELP}; it has learnt its cost")
    parser.add_argument(
        "--task",
        choices=[task.value for task in TRAINED_TASKS],
        default=Task.CLASSIFY.value,
        help=TASK_HELP,
        metavar="TASK",
    )
    add_model_option(parser)
    parser.add_argument(
        "--goodput",
        type=_fraction,
        default=DEFAULT_ANSWERED,
        metavar="PART",
        help=f"part of the requests that must be answered [{DEFAULT_ANSWERED:g}]",
    )
    parser.add_argument(
        "--max-load",
        type=_fraction,
        default=DEFAULT_MAX_LOAD,
        metavar="PART",
        help="most load of a replica, relative to its throughput in full batches: costs and rates "
        f"are never known exactly [{DEFAULT_MAX_LOAD:g}]",
    )
    parser.add_argument(
        "--max-batch-size",
        type=_batch_limit,
        metavar="N",
        help=f"largest batch limit to try [the service's, with --url; {DEFAULT_BATCH_LIMIT}]",
    )
    parser.add_argument(
        "--overhead",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="time of a request outside of queue and device [0]",
    )
    parser.add_argument(
        "--price-per-hour", type=_seconds, metavar="P", help="price of one replica, in any currency"
    )
    add_options(parser, timeout_help=f"for --url to answer [{DEFAULT_TIMEOUT_SECONDS:g}]")
    parser.add_argument("--json", action="store_true", help="one JSON object [tables]")


def run(arguments: argparse.Namespace) -> int:
    """Compute the plan and print it."""
    setup = _setup(arguments)
    target = Target(arguments.p99, arguments.goodput)
    demand = Demand(arguments.rate, target, arguments.max_load)
    # None: no progress where the standard error stream is no terminal.
    with tqdm(
        total=len(usable_limits(setup)), unit=" batch limits", leave=False, disable=None
    ) as bar:
        try:
            plan = make_plan(setup, demand, done=bar.update)
        except ImpossibleTargetError as error:
            raise RefusedError(str(error)) from error
    price: float | None = arguments.price_per_hour
    if arguments.json:
        sys.stdout.write(json.dumps(document(plan, setup, demand, price)) + "\n")
    else:
        write_tables(plan, demand, price)
    return DONE


def _setup(arguments: argparse.Namespace) -> ReplicaSetup:
    settings = load_settings()
    limit: int | None = arguments.max_batch_size
    cost: AffineCost = arguments.cost
    if arguments.url is not None:
        model, learnt = _learnt(arguments)
        cost = AffineCost(learnt.fixed_seconds, learnt.per_image_seconds)
        measured_up_to = max(model.batch_sizes)
        limit = limit or measured_up_to
        if limit > measured_up_to:
            print_error(
                f"batches of more than {measured_up_to} were never measured there; "
                "their cost is extrapolated"
            )
    return ReplicaSetup(
        task=Task(arguments.task),
        cost=cost,
        batch_limit=limit or DEFAULT_BATCH_LIMIT,
        max_waiting=settings.max_queue_requests,
        timeout_seconds=settings.default_timeout_seconds,
        overhead_seconds=arguments.overhead,
    )


def _learnt(arguments: argparse.Namespace) -> tuple[ServedModel, ShapeCost]:
    """Return what a service has learnt: the costliest of its devices and image sizes.

    Raises:
        ClientError: if it does not answer.
        RefusedError: if it does not serve the task, or has not learnt yet.
    """
    timeout_seconds = arguments.timeout or DEFAULT_TIMEOUT_SECONDS
    try:
        client = Client(
            arguments.url, api_key=api_key_of(arguments), timeout_seconds=timeout_seconds
        )
    except ValueError as error:
        raise RefusedError(str(error)) from error
    with client:
        models = models_for(arguments.task, client.models(), client.url, arguments.model)
        learnt = [(model, cost) for model in models for cost in model.costs]
        if not learnt:
            raise RefusedError(f"The service at {client.url} has not yet learnt what it costs.")
    model, cost = max(learnt, key=lambda pair: _full_seconds(*pair))
    others = len(learnt) - 1
    print_error(
        f"{arguments.task} with {model.name} on {model.device} ({model.device_name}), "
        f"{model.dtype}, {cost.width}x{cost.height}: "
        f"{1e3 * cost.fixed_seconds:.3g} ms + {1e3 * cost.per_image_seconds:.3g} ms n"
        + (f"; the costliest of {len(learnt)} that it has learnt" if others else "")
    )
    return model, cost


def _full_seconds(model: ServedModel, cost: ShapeCost) -> float:
    return cost.fixed_seconds + max(model.batch_sizes) * cost.per_image_seconds


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return number


def _positive(text: str) -> float:
    number = _number(text)
    if number <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def _seconds(text: str) -> float:
    number = _number(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return number


def _fraction(text: str) -> float:
    number = _number(text)
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 1")
    return number


def _batch_limit(text: str) -> int:
    number = _number(text)
    if not number.is_integer() or not 1 <= number <= MAX_BATCH_LIMIT:
        raise argparse.ArgumentTypeError(f"{text} is not whole and from 1 to {MAX_BATCH_LIMIT}")
    return int(number)


def _cost(text: str) -> AffineCost:
    parts = text.split(",")
    if len(parts) != 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not two numbers like 0.005,0.0005")
    fixed_seconds, per_image_seconds = map(_seconds, parts)
    if fixed_seconds + per_image_seconds <= 0:
        raise argparse.ArgumentTypeError("the cost of a batch has to be above 0")
    return AffineCost(fixed_seconds, per_image_seconds)

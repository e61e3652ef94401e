"""Find the fewest replicas that meet a target, and simulate one more and one fewer.

Each request goes to a random replica, as with a Service of Kubernetes; so each replica gets a
Poisson load of its own, an equal part of the whole, and one simulation stands for all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from service.commands.plan.replica import ReplicaSetup, SimulationResult, Target, meets, simulate
from service.engine.scheduling.cost_model import BATCH_SECONDS, batch_sizes_up_to

REQUESTS = 20_000
"""Requests of one simulation: two hundred exceed the p99."""

IDLE_UTILISATION = 1e-3
"""Utilisation at which requests hardly ever queue: a target that is missed here is never met."""


class ImpossibleTargetError(Exception):
    """No number of replicas meets the target; the message says why, with the numbers."""


@dataclass(frozen=True)
class Demand:
    """A load and its target.

    Attributes:
        per_second: requests to all replicas together.
        target: for each of them.
        max_load: most load of a replica, relative to its throughput in full batches.
    """

    per_second: float
    target: Target
    max_load: float


@dataclass(frozen=True)
class Option:
    """A number of replicas, and the simulation of one.

    Attributes:
        replicas: number of those that share the load.
        simulated: measurements of each.
    """

    replicas: int
    simulated: SimulationResult


@dataclass(frozen=True)
class Plan:
    """Result of the search.

    Attributes:
        batch_limit: the smallest of those that need the fewest replicas.
        needed: the fewest replicas.
        one_lost: the same load with one of them gone; None if there was only one.
        one_spare: one more, so that one may be lost.
        by_batch_limit: the fewest replicas for every limit that was tried.
    """

    batch_limit: int
    needed: Option
    one_lost: Option | None
    one_spare: Option
    by_batch_limit: dict[int, Option]


def make_plan(
    setup: ReplicaSetup,
    demand: Demand,
    *,
    requests: int = REQUESTS,
    done: Callable[[], object] = lambda: None,
) -> Plan:
    """Plan for a load.

    Args:
        setup: of a replica; its batch limit is the largest to try.
        demand: load and target.
        requests: of each simulation.
        done: called after each batch limit.

    Raises:
        ImpossibleTargetError: if no number of replicas is enough.
    """
    _check_possible(setup, demand.target)
    by_limit: dict[int, Option] = {}
    replicas: int | None = None
    for limit in usable_limits(setup):
        limited = replace(setup, batch_limit=limit)
        replicas = fewest_replicas(limited, demand, requests=requests, guess=replicas)
        by_limit[limit] = _option(limited, demand, replicas, requests)
        done()
    best = min(by_limit, key=lambda limit: (by_limit[limit].replicas, limit))
    chosen, needed = replace(setup, batch_limit=best), by_limit[best]
    fewer, more = needed.replicas - 1, needed.replicas + 1
    return Plan(
        batch_limit=best,
        needed=needed,
        one_lost=_option(chosen, demand, fewer, requests) if fewer else None,
        one_spare=_option(chosen, demand, more, requests),
        by_batch_limit=by_limit,
    )


def usable_limits(setup: ReplicaSetup) -> tuple[int, ...]:
    """Return the batch limits to try: the scheduler makes no batch longer than its bound."""
    sizes = batch_sizes_up_to(setup.batch_limit)
    return tuple(size for size in sizes if size == 1 or setup.cost.seconds(size) <= BATCH_SECONDS)


def fewest_replicas(
    setup: ReplicaSetup, demand: Demand, *, requests: int, guess: int | None = None
) -> int:
    """Return the smallest number of replicas that meets a demand.

    Args:
        setup: of each of them.
        demand: load and target.
        requests: of each simulation.
        guess: tried first; the result for a neighbouring limit is often the same.

    Raises:
        ImpossibleTargetError: if even idle replicas do not.
    """

    def enough(replicas: int) -> bool:
        return meets(setup, demand.per_second / replicas, demand.target, requests=requests)

    # Too few by arithmetic alone; then steps that double until there are enough, then bisection.
    too_few = _least_by_load(setup, demand) - 1
    if guess is not None and guess - 1 > too_few and not enough(guess - 1):
        too_few = guess - 1
    step = 1
    while not enough(too_few + step):
        too_few += step
        step *= 2
        if demand.per_second / too_few * setup.cost.seconds(1) < IDLE_UTILISATION:
            raise ImpossibleTargetError(
                f"{too_few} replicas, which are all but idle, answer fewer than "
                f"{demand.target.answered_fraction:.4%} in time: the queue's limit of "
                f"{setup.max_waiting} or the timeout of {setup.timeout_seconds:g} s is too low."
            )
    most = too_few + step
    while most - too_few > 1:
        middle = (too_few + most) // 2
        if enough(middle):
            most = middle
        else:
            too_few = middle
    return most


def _least_by_load(setup: ReplicaSetup, demand: Demand) -> int:
    """Return the fewest replicas of which none gets more than ``max_load``."""
    exact = demand.per_second / (demand.max_load * setup.most_per_second)
    return max(-int(-exact * (1 - 1e-9) // 1), 1)


def _option(setup: ReplicaSetup, demand: Demand, replicas: int, requests: int) -> Option:
    return Option(replicas, simulate(setup, demand.per_second / replicas, requests=requests))


def _check_possible(setup: ReplicaSetup, target: Target) -> None:
    alone_seconds = setup.cost.seconds(1)
    least_seconds = alone_seconds + setup.overhead_seconds
    if least_seconds > target.p99_seconds * (1 + 1e-9):
        overhead = f" and {_ms(setup.overhead_seconds)} around it" if setup.overhead_seconds else ""
        raise ImpossibleTargetError(
            f"A p99 of {_ms(target.p99_seconds)} is impossible: one image alone takes "
            f"{_ms(alone_seconds)} on the device{overhead}."
        )
    if least_seconds > setup.timeout_seconds:
        raise ImpossibleTargetError(
            f"The timeout of {_ms(setup.timeout_seconds)} is shorter than one image alone takes, "
            f"{_ms(least_seconds)}."
        )


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.4g} ms"

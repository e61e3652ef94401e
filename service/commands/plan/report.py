"""A plan as tables or as a JSON document."""

from __future__ import annotations

import sys
from dataclasses import asdict

from service.commands.console.table import Table
from service.commands.plan.replica import ReplicaSetup
from service.commands.plan.search import Demand, Option, Plan

NOTHING = "-"

MENTIONED = 0.005
"""Minimum share of the batches for a batch size to be listed."""


def document(
    plan: Plan, setup: ReplicaSetup, demand: Demand, price: float | None
) -> dict[str, object]:
    """Return the plan as a JSON document; durations are seconds.

    Args:
        plan: the plan.
        setup: the replica that it is for.
        demand: the demand that it is for.
        price: of one replica for an hour; None if unknown.
    """
    return {
        "requests_per_second": demand.per_second,
        "target": asdict(demand.target) | {"max_load": demand.max_load},
        "replica": {
            "task": setup.task.value,
            "fixed_seconds": setup.cost.fixed_seconds,
            "per_image_seconds": setup.cost.per_image_seconds,
            "max_queue_requests": setup.max_waiting,
            "timeout_seconds": setup.timeout_seconds,
            "overhead_seconds": setup.overhead_seconds,
            "price_per_hour": price,
        },
        "max_batch_size": plan.batch_limit,
        "needed": _option_document(plan.needed, demand, price),
        "one_lost": plan.one_lost and _option_document(plan.one_lost, demand, price),
        "one_spare": _option_document(plan.one_spare, demand, price),
        "by_max_batch_size": {
            limit: _option_document(option, demand, price)
            for limit, option in plan.by_batch_limit.items()
        },
    }


def _option_document(option: Option, demand: Demand, price: float | None) -> dict[str, object]:
    found = {"replicas": option.replicas} | asdict(option.simulated)
    if price is not None:
        found["price_per_hour"] = option.replicas * price
        found["price_per_million"] = _per_million(option, demand, price)
    return found


def _per_million(option: Option, demand: Demand, price: float) -> float:
    return option.replicas * price / (3600 * demand.per_second) * 1e6


def write_tables(plan: Plan, demand: Demand, price: float | None) -> None:
    """Write the plan as tables; see ``document``."""
    needed = plan.needed
    batches = ", ".join(
        f"{part:.0%} of {size}"
        for size, part in needed.simulated.batch_sizes.items()
        if part >= MENTIONED
    )
    sys.stdout.write(
        f"{demand.per_second:g} requests/s with a p99 of {1e3 * demand.target.p99_seconds:g} ms: "
        f"{needed.replicas} {'replica' if needed.replicas == 1 else 'replicas'}, "
        f"OVERLOCK_MAX_BATCH_SIZE={plan.batch_limit}\n"
        f"batches: {needed.simulated.requests_per_batch:.1f} requests on average; {batches}\n\n"
    )
    rows = [("needed", needed), ("one spare", plan.one_spare)]
    if plan.one_lost is not None:
        rows.insert(1, ("one lost", plan.one_lost))
    _write_rows("", rows, demand, price)
    sys.stdout.write("\nby OVERLOCK_MAX_BATCH_SIZE:\n\n")
    by_limit = [(str(limit), option) for limit, option in plan.by_batch_limit.items()]
    _write_rows("limit", by_limit, demand, price)


def _write_rows(
    title: str, rows: list[tuple[str, Option]], demand: Demand, price: float | None
) -> None:
    columns = [
        (title, max(len(title), *(len(name) for name, _ in rows))),
        ("replicas", -8),
        ("each/s", -8),
        ("load", -5),
        ("busy", -5),
        ("p50 ms", -7),
        ("p99 ms", -7),
        ("answered", -8),
    ]
    if price is not None:
        columns += [("per hour", -9), ("per million", -11)]
    table = Table(columns)
    for name, option in rows:
        found = option.simulated
        cells = [
            name,
            str(option.replicas),
            f"{found.requests_per_second:.1f}",
            f"{found.load:.0%}",
            f"{found.utilisation:.0%}",
            *(
                NOTHING if seconds is None else f"{1e3 * seconds:.1f}"
                for seconds in (found.p50_seconds, found.p99_seconds)
            ),
            f"{found.answered_fraction:.2%}",
        ]
        if price is not None:
            per_million = _per_million(option, demand, price)
            cells += [f"{option.replicas * price:.2f}", f"{per_million:.3f}"]
        table.write(cells)

"""The Markdown report of a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from benchmarks.serving.curves import CONCURRENCIES, Measurement
from benchmarks.serving.goals import Goal
from benchmarks.serving.results import AloneResults, Results

EXPLANATION = """\
The server has one core, the load generator the other. The device is simulated: a batch of n takes 5
ms + 0.5 ms n, at most 16. Ours is the real service with only the runner replaced; every peer
decodes with the same function, brings images to the same geometry with the same function, and
answers with the same five classes. A peer with its example's decoding does both with Pillow, as its
documentation shows it, and is measured once, under the judged loads alone. Every answer is checked
against its image. An open loop's arrivals are a Poisson process, the same for every contestant; a
latency counts from the moment at which a request was due. Contestants took turns; numbers are
medians over the repeats. CPU is the processor time of all of a server's processes for one answer:
the least sensitive of these numbers to whatever else the machine did. Ideal: no overhead, images
decoded in order on one core, batches formed greedily."""


ALONE_EXPLANATION = """\
The server has one core, the load generator the other. In the overloads the device is simulated; a
closed loop tells the capacity, then half of it is offered, twice, and half again, as a Poisson
process. A real network runs the same batches bare, one after the other, in turns with the service,
in the same type and with one thread. Idle is the processor time of all processes."""


def as_markdown(results: Results, goals: Sequence[Goal], plot_name: str) -> str:
    """Write the report of a run against the peers."""
    sections = [
        "# Serving, against the peers",
        f"`{results.command}`",
        "\n".join(f"- {fact}: {value}" for fact, value in results.machine.items()),
        EXPLANATION,
        goals_table(goals),
        *(_workload(results, workload) for workload in results.decode_seconds),
        f"![latency over offered load]({plot_name})",
        _overloads(results),
        _real_networks(results),
        _footprint(results),
        _generator(results.generator),
        _failures(results.failures),
        "## Contestants\n\n" + table(("server", "set up"), results.notes.items()),
    ]
    return "\n\n".join(sections) + "\n"


def alone_as_markdown(results: AloneResults, goals: Sequence[Goal]) -> str:
    """Write the report of a run without peers."""
    sections = [
        "# Serving, alone",
        f"`{results.command}`",
        "\n".join(f"- {fact}: {value}" for fact, value in results.machine.items()),
        ALONE_EXPLANATION,
        goals_table(goals),
        *([_overloads(results)] if results.overloads else []),
        *([_real_networks(results)] if results.real_networks else []),
        *([_footprint(results)] if results.idleness else []),
    ]
    return "\n\n".join(sections) + "\n"


def goals_table(goals: Sequence[Goal]) -> str:
    """Return the section of the goals."""
    return "## Goals\n\n" + table(
        ("goal", "target", "measured", ""),
        ((g.what, g.target, g.measured, "met" if g.met else "**missed**") for g in goals),
    )


def _workload(results: Results, workload: str) -> str:
    names = list(dict.fromkeys(each.contestant for each in results.curves))
    decode_ms = _ms(results.decode_seconds[workload])
    ideals = {(each.loop, each.level): each for each in results.ideals if each.workload == workload}
    closed_rows = []
    for name in names:
        row = [name]
        for concurrency in CONCURRENCIES:
            outcome = results.outcome(name, workload, "closed", concurrency)
            ideal = ideals["closed", concurrency]
            if outcome is None:
                row += ["", "", "", "", ""]
                continue
            rate = outcome.answered_per_second
            row += [
                f"{rate:.0f}",
                _ms(outcome.p99_seconds),
                _share(rate, ideal.device_per_second),
                _share(rate, ideal.per_second),
                _ms(results.cpu_seconds(name, workload, "closed", concurrency)),
            ]
        closed_rows.append(row)
    heads = [
        head
        for c in CONCURRENCIES
        for head in (f"c={c}, /s", "p99 ms", "of device", "of ideal", "CPU ms")
    ]
    rates = results.levels(workload, "open")
    open_rows = [["ideal", *(_latencies(ideals["open", rate]) for rate in rates)]]
    for name in names:
        outcomes = [results.outcome(name, workload, "open", rate) for rate in rates]
        open_rows.append([name, *("" if each is None else _open_cell(each) for each in outcomes)])
    return (
        f"## Images of {workload}, {results.payload_bytes[workload] / 1000:.0f} KB, "
        f"{decode_ms} ms to decode and resize\n\n"
        + table(("closed loop", *heads), closed_rows)
        + "\n\n"
        + "Open loop, p50 / p99 in ms; in brackets what was answered, where that is less than 98 % "
        + "of what was offered.\n\n"
        + table(("offered", *(f"{rate:g}/s" for rate in rates)), open_rows)
    )


def _latencies(ideal: object) -> str:
    p50, p99 = getattr(ideal, "p50_seconds", None), getattr(ideal, "p99_seconds", None)
    return f"{_ms(p50)} / {_ms(p99)}"


def _open_cell(outcome: object) -> str:
    text = _latencies(outcome)
    offered = getattr(outcome, "offered_per_second", 0.0)
    answered = getattr(outcome, "answered_per_second", 0.0)
    return text if answered >= 0.98 * offered else f"{text} ({answered:.0f}/s)"


def _overloads(results: AloneResults) -> str:
    return "## Twice the capacity\n\n" + table(
        (
            "server",
            "device",
            "capacity /s",
            "goodput /s",
            "p99 before, ms",
            "p99 of the accepted, ms",
            "refused",
            "failed",
            "recovery s",
        ),
        (
            (
                each.contestant,
                each.device,
                f"{each.capacity_per_second:.0f}",
                f"{each.goodput_per_second:.0f}",
                _ms(each.calm_p99_seconds),
                _ms(each.accepted_p99_seconds),
                f"{each.refused_fraction:.1%}",
                f"{each.failed_fraction:.1%}",
                f"{each.recovery_seconds:.2f}",
            )
            for each in results.overloads
        ),
    )


def _real_networks(results: AloneResults) -> str:
    return "## Real networks on the CPU, saturated, one thread\n\n" + table(
        ("network", "placement", "batch", "HTTP images/s", "bare images/s", "HTTP / bare"),
        (
            (
                each.model,
                each.placement,
                f"{each.batch_size:.1f}",
                f"{each.http_per_second:.2f}",
                f"{each.bare_per_second:.2f}",
                f"{each.fraction:.1%}",
            )
            for each in results.real_networks
        ),
    )


def _footprint(results: AloneResults) -> str:
    idle = "## Idle\n\n" + table(
        ("server", "of one core"),
        ((each.contestant, f"{each.core_fraction:.2%}") for each in results.idleness),
    )
    if (memory := results.memory) is None:
        return idle
    return (
        f"{idle}\n\nPeak resident memory of the service with the demo model: HTTP worker "
        f"{memory.http_worker_bytes / 1e6:.0f} MB, engine {memory.engine_bytes / 1e6:.0f} MB."
    )


def _failures(failures: Sequence[str]) -> str:
    return "## Failures\n\n" + ("\n".join(f"- {each}" for each in failures) or "None.")


def _generator(measurements: Sequence[Measurement]) -> str:
    return "## The load generator itself, against a static responder\n\n" + table(
        ("loop", "answers /s", "p50 ms", "p99 ms", "sent late, p99 ms"),
        (
            (
                f"{each.loop} {each.level:g}",
                f"{each.outcome.answered_per_second:.0f}",
                _ms(each.outcome.p50_seconds),
                _ms(each.outcome.p99_seconds),
                _ms(each.outcome.late_p99_seconds),
            )
            for each in measurements
        ),
    )


def _ms(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if math.isinf(seconds):
        return "never"
    milliseconds = 1000 * seconds
    return (
        f"{milliseconds:.0f}"
        if milliseconds >= 100
        else f"{milliseconds:.2g}"
        if (milliseconds < 1)
        else f"{milliseconds:.1f}"
    )


def _share(measured: float, ideal: float | None) -> str:
    return "" if ideal is None else f"{measured / ideal:.0%}"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    aligned = [" --- ", *(" --: " for _ in heads[1:])]
    lines = [" | ".join(heads), "|".join(aligned), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line.strip()} |" for line in lines)

"""``overlock predict``."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

from service.client import AsyncClient
from service.client.asking import DEFAULT_TIMEOUT_SECONDS
from service.console.asking import api_key_of
from service.console.exits import RefusedError
from service.console.processes import become
from service.prediction.arguments import DEFAULT_CONCURRENCY, fill_parser
from service.prediction.by_service import ByService
from service.prediction.options import at_once, refuse_mixed, wish_of
from service.prediction.report import Report
from service.prediction.sources import Source, find_sources
from service.prediction.wishes import Wish

__all__ = ["fill_parser", "run"]


def run(arguments: argparse.Namespace) -> int:
    """Predict, in a process with torch or by a service."""
    refuse_mixed(arguments)
    if arguments.url is None:
        become("service.prediction", sys.argv[2:])
    wish = wish_of(arguments)
    concurrency = at_once(arguments.concurrency, DEFAULT_CONCURRENCY, "concurrency")
    try:
        client = AsyncClient(
            arguments.url,
            api_key=api_key_of(arguments),
            timeout_seconds=arguments.timeout or DEFAULT_TIMEOUT_SECONDS,
        )
    except ValueError as error:
        raise RefusedError(str(error)) from error
    sources = find_sources(arguments.files, sys.stdin.buffer)
    folder = arguments.save if wish.pictures else None
    with Report(sources, wish.task, as_json=arguments.json, folder=folder) as report:
        asyncio.run(_ask(client, wish, sources, concurrency, report))
        report.finish()
    return report.exit_code


async def _ask(
    client: AsyncClient, wish: Wish, sources: Sequence[Source], concurrency: int, report: Report
) -> None:
    async with client:
        there = ByService(client, wish, concurrency)
        report.note(await there.note())
        async for outcome in there.outcomes(sources):
            report.add(outcome)

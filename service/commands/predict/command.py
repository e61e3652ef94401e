"""``overlock predict``."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

from service.client import AsyncClient
from service.client.base import DEFAULT_TIMEOUT_SECONDS
from service.commands.console.exits import RefusedError
from service.commands.console.processes import exec_module
from service.commands.console.remote_options import api_key_of
from service.commands.predict.arguments import DEFAULT_CONCURRENCY, fill_parser
from service.commands.predict.conversion import checked_count, refuse_mixed, request_of
from service.commands.predict.outcome import PredictRequest
from service.commands.predict.remote import RemotePredictor
from service.commands.predict.report import PredictionReport
from service.commands.predict.sources import Source, find_sources, skipped_note

__all__ = ["fill_parser", "run"]


def run(arguments: argparse.Namespace) -> int:
    """Predict, in a process with torch or by a service."""
    refuse_mixed(arguments)
    if arguments.url is None:
        exec_module("service.commands.predict", sys.argv[2:])
    request = request_of(arguments)
    concurrency = checked_count(arguments.concurrency, DEFAULT_CONCURRENCY, "concurrency")
    try:
        client = AsyncClient(
            arguments.url,
            api_key=api_key_of(arguments),
            timeout_seconds=arguments.timeout or DEFAULT_TIMEOUT_SECONDS,
        )
    except ValueError as error:
        raise RefusedError(str(error)) from error
    sources, skipped = find_sources(arguments.files, sys.stdin.buffer)
    with PredictionReport(
        sources, request.task, as_json=arguments.json, folder=arguments.save
    ) as report:
        report.note(skipped_note(skipped))
        asyncio.run(_predict(client, request, sources, concurrency, report))
        report.finish()
    return report.exit_code


async def _predict(
    client: AsyncClient,
    request: PredictRequest,
    sources: Sequence[Source],
    concurrency: int,
    report: PredictionReport,
) -> None:
    async with client:
        predictor = RemotePredictor(client, request, concurrency)
        report.note(await predictor.note())
        async for outcome in predictor.outcomes(sources):
            report.add(outcome)

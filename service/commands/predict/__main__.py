"""Predict in this process: ``overlock predict`` without ``--url``.

It is a process of its own, since torch reads the environment when it is loaded.
"""

from __future__ import annotations

import argparse
import sys

from service.api.errors import ServiceError
from service.commands.console.exits import RefusedError, run_to_exit
from service.commands.console.signals import ending_at_once
from service.commands.predict.arguments import DEFAULT_BATCH_SIZE, fill_parser
from service.commands.predict.conversion import checked_count, request_of, settings_of
from service.commands.predict.report import PROGRAM, PredictionReport
from service.commands.predict.sources import find_sources, skipped_note
from service.engine.batches import DeviceFailedError


def main() -> None:
    """Predict as the arguments say, and exit."""
    run_to_exit(_predict, PROGRAM)


def _predict() -> int:
    parser = argparse.ArgumentParser(prog=PROGRAM)
    fill_parser(parser)
    arguments = parser.parse_args()
    batch_size = checked_count(arguments.batch_size, DEFAULT_BATCH_SIZE, "batch_size")
    request = request_of(arguments)
    settings, spec = settings_of(arguments)
    sources, skipped = find_sources(arguments.files, sys.stdin.buffer)
    with PredictionReport(
        sources, request.task, as_json=arguments.json, folder=arguments.save
    ) as report:
        report.note(skipped_note(skipped))
        with ending_at_once():  # loading torch takes seconds
            from service.commands.predict.local import LocalPredictor

        try:
            predictor = LocalPredictor(settings, spec, request, batch_size)
        except (ValueError, ServiceError, DeviceFailedError) as error:
            raise RefusedError(str(error)) from error
        report.note(predictor.note)
        try:
            for outcome in predictor.outcomes(sources):
                report.add(outcome)
        except DeviceFailedError as error:
            report.give_up(str(error))
        report.finish()
    return report.exit_code


if __name__ == "__main__":
    main()

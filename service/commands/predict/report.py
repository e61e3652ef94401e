"""Output of predictions: a table or JSON lines, overlays, progress and failures."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

from tqdm import tqdm

from model.config import Task
from service.api.schemas import ClassifyResponse, DetectResponse, SegmentResponse
from service.commands.console.exits import DONE, FAILED, RefusedError, message_of, print_error
from service.commands.console.table import Table, escaped
from service.commands.predict.outcome import Document, Failure, Outcome, PredictAnswer
from service.commands.predict.sources import Source

PROGRAM = "overlock predict"

MAX_NAME_WIDTH = 48
"""Longer names push their row aside."""

COLUMNS = {
    Task.CLASSIFY: [("score", -7), ("class", 0)],
    Task.SEGMENT: [("share", -7), ("class", 0)],
    Task.DETECT: [("score", -7), ("class", 16), ("x1 y1 x2 y2", 0)],
}

OVERLAY_SUFFIX = ".overlay.png"

PROGRESS_SECONDS = 10.0
"""Time between two lines of progress where the standard error stream is no terminal."""


class PredictionReport:
    """Shows outcomes as they come. Used in a ``with`` statement, which ends the progress bar.

    Args:
        sources: all of them, in order.
        task: the task of the predictions.
        as_json: whether to write JSON lines instead of a table.
        folder: for overlays; created if it does not exist.
        clock: seconds on a monotonic clock.

    Raises:
        RefusedError: if two overlays would be one file.
        OSError: if the folder cannot be made.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        task: Task,
        *,
        as_json: bool,
        folder: Path | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._done, self._failed = len(sources), 0, 0
        self._as_json = as_json
        self._folder = folder
        if folder is not None:
            _check_places(sources)
            folder.mkdir(parents=True, exist_ok=True)
        width = max((len(escaped(source.name)) for source in sources), default=0)
        self._table = Table([("file", min(max(width, 4), MAX_NAME_WIDTH)), *COLUMNS[task]])
        # None: no bar where the standard error stream is no terminal; lines, then.
        disable = None if self._total > 1 else True
        self._clock, self._started_at, self._told_at = clock, clock(), clock()
        self._bar = tqdm(total=self._total, unit=" images", leave=False, disable=disable)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    @property
    def exit_code(self) -> int:
        """Exit code of the command."""
        return FAILED if self._failed else DONE

    def add(self, outcome: Outcome) -> None:
        """Show one image's outcome and save its overlay."""
        result = self._saved(outcome)
        self._failed += isinstance(result, Failure)
        with tqdm.external_write_mode(sys.stdout):
            if self._as_json:
                sys.stdout.write(_json_line(outcome.source.name, result) + "\n")
            elif isinstance(result, Failure):
                print_error(f"{escaped(outcome.source.name)}: {result.detail}", PROGRAM)
            else:
                self._write_rows(outcome.source.name, result.document)
            # The reader of a pipe gets every image as soon as it is done.
            sys.stdout.flush()
        self._done += 1
        self._bar.update()
        self._tell_progress()

    def _tell_progress(self) -> None:
        now = self._clock()
        left = self._total - self._done
        if not self._bar.disable or left == 0 or now - self._told_at < PROGRESS_SECONDS:
            return
        self._told_at = now
        rate = self._done / (now - self._started_at)
        print_error(
            f"{self._done} of {self._total} images, {rate:.3g} a second, "
            f"about {tqdm.format_interval(left / rate)} left.",
            PROGRAM,
        )

    def note(self, note: str | None) -> None:
        """Print a caveat about the answers."""
        if note is not None:
            with tqdm.external_write_mode(sys.stderr):
                print_error(note, PROGRAM)

    def give_up(self, reason: str) -> None:
        """Print why the remaining images are left out; they count as failed."""
        with tqdm.external_write_mode(sys.stderr):
            print_error(reason, PROGRAM)
        self._failed += self._total - self._done

    def finish(self) -> None:
        """Print the number of failures."""
        self._bar.close()
        if self._failed:
            print_error(f"{self._failed} of {self._total} failed.", PROGRAM)

    def _saved(self, outcome: Outcome) -> PredictAnswer | Failure:
        result = outcome.result
        if self._folder is None or isinstance(result, Failure) or result.picture is None:
            return result
        try:
            _write(self._folder / _overlay_of(outcome.source), result.picture)
        except OSError as error:
            return Failure("not-saved", f"The overlay cannot be saved: {message_of(error)}.")
        return result

    def _write_rows(self, name: str, document: Document) -> None:
        for cells in _rows(document):
            self._table.write([name, *cells])
            name = ""


def _rows(document: Document) -> Iterator[list[str]]:
    match document:
        case ClassifyResponse():
            for prediction in document.predictions:
                yield [_percent(prediction.score), prediction.label]
        case SegmentResponse():
            for segment in document.classes:
                yield [_percent(segment.fraction), segment.label]
        case DetectResponse():
            for found in document.detections:
                box = " ".join(f"{side:.0f}" for side in found.box)
                yield [_percent(found.score), found.label, box]
            if not document.detections:
                yield ["", "nothing found", ""]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _json_line(name: str, result: PredictAnswer | Failure) -> str:
    if isinstance(result, Failure):
        return json.dumps({"file": name, "error": {"kind": result.kind, "detail": result.detail}})
    return json.dumps({"file": name, **result.document.model_dump(mode="json")})


def _overlay_of(source: Source) -> Path:
    return Path(source.place.with_name(source.place.name + OVERLAY_SUFFIX))


def _check_places(sources: Sequence[Source]) -> None:
    taken: dict[Path, str] = {}
    for source in sources:
        if not source.place.name:
            continue
        place = _overlay_of(source)
        if place in taken:
            raise RefusedError(
                f"The overlays of {taken[place]} and {source.name} would be one file, {place}. "
                "Name the folder above them, or predict on one after the other."
            )
        taken[place] = source.name


def _write(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_bytes(content)
    unfinished.replace(path)

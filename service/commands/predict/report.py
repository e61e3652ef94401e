"""Output of predictions: a table or JSON lines, files, progress and failures."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

from tqdm import tqdm

from model.config import Task
from service.api.schemas import (
    ClassifyResponse,
    DetectResponse,
    EmbedResponse,
    ExplainResponse,
    Region,
    SegmentResponse,
)
from service.commands.console.exits import DONE, FAILED, message_of, print_error
from service.commands.console.progress import ImageProgress
from service.commands.console.table import Table, escaped
from service.commands.predict.outcome import Document, Failure, Outcome, PredictAnswer
from service.commands.predict.saving import check_places, save
from service.commands.predict.sources import Source

PROGRAM = "overlock predict"

MAX_NAME_WIDTH = 48
"""Longer names push their row aside."""

COLUMNS = {
    Task.CLASSIFY: [("score", -7), ("class", 0)],
    Task.SEGMENT: [("share", -7), ("class", 0)],
    Task.DETECT: [("score", -7), ("class", 16), ("x1 y1 x2 y2", 0)],
    Task.EMBED: [("layer", 8), ("dimension", -9), ("length", -7)],
    Task.EXPLAIN: [("score", -7), ("logit", -7), ("peak x y", -9), ("class", 0)],
}


class PredictionReport:
    """Shows outcomes as they come. Used in a ``with`` statement, which ends the progress bar.

    Args:
        sources: all of them, in order.
        task: the task of the predictions.
        as_json: whether to write JSON lines instead of a table.
        folder: for files; created if it does not exist. None saves none.
        clock: seconds on a monotonic clock.

    Raises:
        RefusedError: if the files of two images would be one.
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
        self._total, self._failed = len(sources), 0
        self._as_json = as_json
        self._folder = folder
        if folder is not None:
            check_places(sources, task)
            folder.mkdir(parents=True, exist_ok=True)
        width = max((len(escaped(source.name)) for source in sources), default=0)
        self._table = Table([("file", min(max(width, 4), MAX_NAME_WIDTH)), *COLUMNS[task]])
        self._progress = ImageProgress(self._total, PROGRAM, clock=clock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.close()

    @property
    def exit_code(self) -> int:
        """Exit code of the command."""
        return FAILED if self._failed else DONE

    def add(self, outcome: Outcome) -> None:
        """Show one image's outcome and save its files."""
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
        self._progress.advance()

    def note(self, note: str | None) -> None:
        """Print a caveat about the answers."""
        self._progress.note(note)

    def give_up(self, reason: str) -> None:
        """Print why the remaining images are left out; they count as failed."""
        self._progress.note(reason)
        self._failed += self._total - self._progress.done

    def finish(self) -> None:
        """Print the number of failures."""
        self._progress.close()
        if self._failed:
            print_error(f"{self._failed} of {self._total} failed.", PROGRAM)

    def _saved(self, outcome: Outcome) -> PredictAnswer | Failure:
        result = outcome.result
        if self._folder is None or isinstance(result, Failure):
            return result
        try:
            save(result, outcome.source, self._folder)
        except OSError as error:
            return Failure("not-saved", f"The result cannot be saved: {message_of(error)}.")
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
        case EmbedResponse():
            length = math.hypot(*document.embedding)
            yield [document.layer, str(document.dimension), f"{length:.4g}"]
        case ExplainResponse():
            for each in document.maps:
                peak = _peak(each.focus, document.region)
                yield [_percent(each.score), f"{each.logit:.2f}", peak, each.label]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _peak(class_map: list[list[float]], region: Region) -> str:
    """Return the middle of the highest cell, in pixels of the image."""
    rows, columns = len(class_map), len(class_map[0])
    cells = [(row, column) for row in range(rows) for column in range(columns)]
    row, column = max(cells, key=lambda cell: class_map[cell[0]][cell[1]])
    x = region.x + region.width * (column + 0.5) / columns
    y = region.y + region.height * (row + 0.5) / rows
    return f"{x:.0f} {y:.0f}"


def _json_line(name: str, result: PredictAnswer | Failure) -> str:
    if isinstance(result, Failure):
        return json.dumps({"file": name, "error": {"kind": result.kind, "detail": result.detail}})
    return json.dumps({"file": name, **result.document.model_dump(mode="json")})

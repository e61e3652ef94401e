"""The files that ``overlock predict --save`` writes: what is drawn, embeddings and class maps."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from model.config import Task
from service.api.schemas import EmbedResponse, ExplainResponse
from service.commands.console.exits import RefusedError
from service.commands.predict.outcome import Document, PredictAnswer
from service.commands.predict.sources import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

OVERLAY_SUFFIX, EXPLAINED_SUFFIX, ARRAY_SUFFIX = ".overlay.png", ".explained.png", ".npy"


def check_places(sources: Sequence[Source], task: Task) -> None:
    """Check that every image has files of its own.

    Raises:
        RefusedError: if the files of two images would be one.
    """
    suffix = ARRAY_SUFFIX if task in {Task.EMBED, Task.EXPLAIN} else OVERLAY_SUFFIX
    taken: dict[Path, str] = {}
    for source in sources:
        if not source.place.name:
            continue
        place = _file(source, suffix)
        if place in taken:
            raise RefusedError(
                f"What is saved of {taken[place]} and {source.name} would be one file, {place}. "
                "Name the folder above them, or predict on one after the other."
            )
        taken[place] = source.name


def save(answer: PredictAnswer, source: Source, folder: Path) -> None:
    """Save an image's files, each of them atomically.

    Raises:
        OSError: if one cannot be written.
    """
    document, array = answer.document, array_of(answer.document)
    if answer.picture is not None:
        suffix = EXPLAINED_SUFFIX if isinstance(document, ExplainResponse) else OVERLAY_SUFFIX
        _write(folder / _file(source, suffix), answer.picture)
    if array is not None:
        file = io.BytesIO()
        np.save(file, array, allow_pickle=False)
        _write(folder / _file(source, ARRAY_SUFFIX), file.getvalue())


def array_of(document: Document) -> NDArray[np.float32] | None:
    """Return an answer's numbers: an embedding (D,), or class maps (k, looks, h, w); else None.

    The looks are focus and, if there is one, overview.
    """
    match document:
        case EmbedResponse():
            return np.array(document.embedding, np.float32)
        case ExplainResponse():
            return np.array(
                [
                    [look for look in (each.focus, each.overview) if look is not None]
                    for each in document.maps
                ],
                np.float32,
            )
    return None


def _file(source: Source, suffix: str) -> Path:
    return Path(source.place.with_name(source.place.name + suffix))


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_bytes(content)
    unfinished.replace(path)

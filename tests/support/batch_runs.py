"""Runs of ``overlock batch``, most in the tests' own process, and what they leave."""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray

from model.scenes.scenes import draw_scene
from service.commands.batch.actors import BatchWork, Decoder, Predictor, describe
from service.commands.batch.arguments import fill_parser
from service.commands.batch.items import packed
from service.commands.batch.pipeline import Pools
from service.commands.console.exits import RefusedError
from service.link.messages import ModelInfo
from support.scene_files import png

Batch = Callable[..., int]
"""Runs ``overlock batch`` with a command's words; returns the exit code."""


PATIENCE_SECONDS = 300.0
"""Ray starts a dozen processes, which takes minutes on a busy machine."""


def arguments(*words: str) -> argparse.Namespace:
    """Parse a command's words, of which the first is the task."""
    parser = argparse.ArgumentParser()
    fill_parser(parser)
    return parser.parse_args(words)


def no_ray(**_: Any) -> AbstractContextManager[Any]:
    """Stand in for a Ray of one's own: its module, of which nothing is started."""
    return nullcontext(ray)


def described_here(_: Any, work: BatchWork, __: Pools) -> ModelInfo:
    """Load the network in this process."""
    found = describe(work)
    if isinstance(found, str):
        raise RefusedError(found)
    return found


def pipeline_here(
    _: Any, chunks: Sequence[pa.Table], work: BatchWork, model: ModelInfo, *__: Any
) -> Iterator[pa.Table]:
    """Run the pipeline's two classes in this process, chunk by chunk."""
    decoder, predictor = Decoder(work, model), Predictor(work)
    for chunk in chunks:
        yield predictor(decoder(pa.table({"items": [packed(chunk)]})))


def failing_after(tables: int, error: BaseException) -> Any:
    """Return a pipeline that fails after so many tables."""

    def run(*given: Any) -> Iterator[pa.Table]:
        for number, table in enumerate(pipeline_here(*given)):
            if number == tables:
                raise error
            yield table

    return run


def write_scenes(folder: Path, count: int, sizes: Sequence[tuple[int, int]] = ((64, 80),)) -> None:
    """Write images ``000.png`` and so on, in turns of these heights and widths."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        height, width = sizes[number % len(sizes)]
        scene = draw_scene(530_000 + number, height, width)
        (folder / f"{number:03d}.png").write_bytes(png(scene.image))


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Return all rows of a finished run, part by part, as its manifest lists them."""
    manifests = sorted(folder.glob("manifest*.json"))
    parts = [part["name"] for each in manifests for part in json.loads(each.read_text())["parts"]]
    return [row for name in parts for row in pq.read_table(folder / name).to_pylist()]


def files_in(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder, hidden ones too."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def wait_for_parts(process: subprocess.Popen[bytes], folder: Path, count: int) -> None:
    """Wait until a run has made so many more parts, or has ended."""

    def parts() -> int:
        return len(list(folder.glob("part-*.parquet")))

    wanted, until = parts() + count, time.monotonic() + PATIENCE_SECONDS
    while parts() < wanted and process.poll() is None:
        assert time.monotonic() < until, "no part came"
        time.sleep(0.05)


def processes_of(session: int) -> dict[int, str]:
    """Return the words of the processes of a session, by their ids."""
    listed = subprocess.run(
        ["ps", "-wweo", "sid,pid,args"], capture_output=True, text=True, check=True
    )
    lines = [line.split(maxsplit=2) for line in listed.stdout.splitlines()[1:]]
    # Those that have ended wait for the machine's first process to take note of it.
    return {
        int(pid): words
        for sid, pid, words in lines
        if sid == str(session) and not words.endswith("<defunct>")
    }

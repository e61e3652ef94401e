"""Processes of the contestants: ours in this environment, the neighbours' in one of their own.

Files are exported once, compiled code is cached by PyTorch, and both are kept in ``WORK``.
"""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.contestants import Contestant as OurContestant
from benchmarks.contestants import Racer, Task, random_images
from benchmarks.export import files_of
from benchmarks.neighbours.forms import COMPILED, EAGER, SERVED, Contestant
from benchmarks.neighbours.networks import is_ours
from benchmarks.serving.environments import REPOSITORY, checkout_environment, environment_bin
from benchmarks.timed_program import TimedProgram
from service.processes.environment import KEPT_MEMORY

HERE = Path(__file__).parent
WORK = HERE / ".work"
"""Folder of exported files, compiled code, inputs and outputs; ignored by git."""

SIDE = 224
OUR_FORMS = {SERVED: "served", EAGER: "folded"}
"""Forms of ``benchmarks.contestants``, by the runtime that they are here."""

ENVIRONMENT = KEPT_MEMORY | {
    "TORCHINDUCTOR_FREEZING": "1",
    "TORCHINDUCTOR_CACHE_DIR": str(WORK / "inductor"),
}
"""Variables of every contestant. The memory settings are an engine's own, which help all; freezing
lets PyTorch's compiler reorder weights once."""


class Process(Protocol):
    """A contestant that is warm, and makes passes on demand, until it is closed."""

    def first_logits(self) -> NDArray[np.float32]:
        """Wait for the first pass; return the logits, (B * 1000,)."""
        ...

    def run(self) -> float:
        """Make a pass; return its seconds."""
        ...

    def close(self) -> None:
        """End the process."""
        ...


class OurProcess(Racer):
    """A network of ``model.zoo`` in PyTorch, or with our kernels."""

    def first_logits(self) -> NDArray[np.float32]:
        """See ``Process``."""
        return self.first_pass().output


class NeighbourProcess:
    """A program of the neighbours' environment: another library's network, or an exported file."""

    def __init__(self, contestant: Contestant, batch: int, threads: int) -> None:
        form, name = contestant.form, contestant.network
        exported = form.runtime not in (EAGER, COMPILED)
        subject = str(exported_file(name)) if exported else name
        self._output = WORK / f"{name}-{form.runtime}-{form.dtype}-{batch}.npy"
        command = runner_command(form.runtime, form.dtype, subject, batch, self._output, threads)
        self._program = TimedProgram(command, runner_environment())

    def close(self) -> None:
        """See ``Process``."""
        self._program.close()

    def first_logits(self) -> NDArray[np.float32]:
        """See ``Process``."""
        self._program.read_line()
        logits: NDArray[np.float32] = np.load(self._output)
        return logits.reshape(-1)

    def run(self) -> float:
        """See ``Process``."""
        return self._program.run()


def start(contestant: Contestant, batch: int, threads: int) -> Process:
    """Start the process of a contestant; its first pass may take minutes of compiling."""
    form = contestant.form
    if is_ours(contestant.network) and form.runtime in OUR_FORMS:
        ours = OurContestant(OUR_FORMS[form.runtime], form.dtype)
        return OurProcess(ours, task_of(contestant.network, batch), threads, count=False)
    return NeighbourProcess(contestant, batch, threads)


def start_gemm(dtype: str, threads: int) -> Racer:
    """Start a matrix product that takes turns, to show how fast the machine is meanwhile."""
    return Racer(OurContestant("gemm", dtype), task_of("overlock_t", 1), threads, count=False)


def exported_file(network: str) -> Path:
    """Return the network's ONNX file, exported for any number of images; made if it is missing."""
    folder = work_folder(network)
    if is_ours(network):
        path = folder / "rows.onnx"  # what `overlock export onnx` writes
        if not path.exists():
            files_of(network, "rows", (SIDE, SIDE), folder)
        return path
    path = folder / "network.onnx"
    if not path.exists():
        command = runner_command("export", "float32", network, 8, path, 2)
        program = TimedProgram(command, runner_environment())
        program.close()
        if not path.exists():
            raise RuntimeError(f"{network} was not exported; its process says why above.")
    return path


def runner_command(
    runtime: str, dtype: str, subject: str, batch: int, target: Path, threads: int
) -> list[str | Path]:
    """Return the command line of ``benchmarks.neighbours.runner``."""
    python = environment_bin("neighbours", HERE, torch=True) / "python"
    program: list[str | Path] = [python, "-m", "benchmarks.neighbours.runner"]
    return [*program, runtime, dtype, subject, images_file(batch), target, str(threads)]


def runner_environment() -> dict[str, str]:
    """Return the variables of a neighbour's process."""
    return checkout_environment() | ENVIRONMENT


def images_file(batch: int) -> Path:
    """Return a file of the images that our own contestants are given, (B, 3, 224, 224)."""
    path = WORK / f"images-{batch}.npy"
    if not path.exists():
        WORK.mkdir(exist_ok=True)
        np.save(path, random_images(task_of("overlock_t", batch)).numpy())
    return path


def task_of(network: str, batch: int) -> Task:
    """Return the task of one of our networks."""
    return Task(network, "whole", batch, SIDE, SIDE)


def reference_file(network: str, batch: int) -> Path:
    """Return where the logits are kept that all forms of a network are compared with."""
    return work_folder(network) / f"reference-{batch}.npy"


def work_folder(network: str) -> Path:
    """Return the folder of a network's files; ours has another one after each change of model/."""
    folder = WORK / (f"{network}-{_digest_of_sources()}" if is_ours(network) else network)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@functools.cache
def _digest_of_sources() -> str:
    digest = hashlib.sha256()
    for source in sorted((REPOSITORY / "model").rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def use_environment() -> None:
    """Give this process's contestants their variables."""
    os.environ.update(ENVIRONMENT)

"""Settings of every unit test."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from model.kernels.cpu import library


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Compute on one thread: maps are tiny, and on a busy machine threads wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True, scope="session")
def compiled_once(request: pytest.FixtureRequest) -> Iterator[None]:
    """Compile the CPU kernels once for each content: pytest's cache keeps what the compiler made.

    Only ``library.compile_library`` is replaced: the tests still decide where a library is kept.
    """
    cache = request.config.cache
    assert cache is not None
    folder = cache.mkdir("cpu_kernels")
    compile_library = library.compile_library

    def copied(
        target: Path,
        instructions: tuple[str, ...] = library.THIS_PROCESSOR,
        timeout_seconds: float = library.COMPILE_SECONDS,
    ) -> Path:
        compiler = library._compiler()
        digest = hashlib.sha256(library._digest(compiler).encode())
        digest.update(" ".join([*library.FLAGS, *instructions]).encode())
        kept = folder / f"{digest.hexdigest()[:32]}.so"
        with (folder / "lock").open("w") as lock:  # of two test processes, one compiles
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not kept.exists():
                compile_library(kept, instructions, timeout_seconds)
        shutil.copyfile(kept, target)
        target.chmod(0o755)
        return target

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "compile_library", copied)
        yield

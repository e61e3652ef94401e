"""Compiled code, carried from one run of the benchmark to the next.

A run packs its caches beside its results as ``caches.tar.gz.0`` and so on, in parts that any
transport takes. Copied to ``benchmarks/carried``, they are unpacked by the next run.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.on_gpu.bench import CACHES, CARRIED, Bench, Row

ARCHIVE = "caches.tar.gz"
PART_BYTES = 15 * 2**20


def environment(folder: Path = CACHES) -> dict[str, str]:
    """Return variables with which Triton and PyTorch's compiler keep their code in a folder."""
    return {
        "TRITON_CACHE_DIR": str(folder / "triton"),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
    }


def rows(bench: Bench) -> Iterator[Row]:
    """Pack the caches into the folder of the results."""
    yield pack(CACHES, bench.output)


def pack(folder: Path, target: Path) -> Row:
    """Pack a folder into parts in another; return what was packed."""
    packed = io.BytesIO()
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=6) as archive:
        for path in files:
            archive.add(path, path.relative_to(folder))
    for old in _parts(target):
        old.unlink()
    content = packed.getvalue()
    for number, start in enumerate(range(0, len(content), PART_BYTES)):
        (target / f"{ARCHIVE}.{number}").write_bytes(content[start : start + PART_BYTES])
    return {
        "files": len(files),
        "MB": sum(path.stat().st_size for path in files) / 1e6,
        "MB packed": len(content) / 1e6,
        "parts": len(_parts(target)),
    }


def unpack(source: Path = CARRIED, folder: Path = CACHES) -> str:
    """Unpack carried caches where there are none yet; return the state of the caches in words."""
    if folder.exists():
        return "full, of an earlier run"
    parts = _parts(source)
    folder.mkdir(parents=True)
    if not parts:
        return "empty"
    with tarfile.open(fileobj=io.BytesIO(b"".join(part.read_bytes() for part in parts))) as archive:
        archive.extractall(folder, filter="data")
    return f"full, unpacked from {os.path.relpath(source)}"


def _parts(folder: Path) -> list[Path]:
    found = folder.glob(f"{ARCHIVE}.*")
    return sorted(found, key=lambda path: int(path.suffix[1:]))

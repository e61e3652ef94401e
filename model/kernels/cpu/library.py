"""Build and load the CPU kernels: the C files in ``native/``.

PyTorch has no fused operators for the layers between OverLoCK's convolutions, and its depthwise
convolutions do not use bfloat16 instructions. The C files are compiled once, for this processor, in
a second or two, and cached in a folder of the user's; the file's name is a digest of the sources,
the compiler and the instructions that it may use. There is no separate build step, and without a
compiler the network runs on PyTorch's operators alone.

A container image has no compiler: ``prebuild`` puts a build for each instruction set beside the
sources, and the best one that the processor can run is loaded.

Free of torch: an HTTP worker resizes images with one of the kernels.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from model.kernels.cpu.instruction_sets import (
    InstructionSet,
    machine_instruction_sets,
    runnable_instruction_sets,
)

SOURCES = Path(__file__).parent / "native"
PREBUILT = SOURCES / "prebuilt"
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-O3", "-std=gnu11", "-fopenmp", "-fPIC", "-Wno-psabi")
THIS_PROCESSOR = ("-march=native",)
COMPILE_SECONDS = 120.0
PREBUILD_SECONDS = 900.0
"""For an image's build: nobody waits for an answer meanwhile, and the machine may be busy."""

_POINTER, _SIZE, _FLAG = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
_SIGNATURES: dict[str, list[type]] = {
    "overlock_depthwise": [_POINTER] * 5 + [_SIZE] * 5 + [_FLAG] * 4,
    "overlock_layer_norm": [_POINTER] * 6 + [_SIZE] * 2 + [_FLAG],
    "overlock_sums": [_POINTER] * 2 + [_SIZE] * 3 + [_FLAG] * 2,
    "overlock_response_norm": [_POINTER] * 4 + [_SIZE] * 3 + [_FLAG],
    "overlock_excite": [_POINTER] * 7 + [_SIZE] * 4 + [_FLAG],
    "overlock_context_mixing": [_POINTER] * 6 + [_SIZE] * 8 + [_FLAG],
    "overlock_join_context": [_POINTER] * 5 + [_SIZE] * 6 + [_FLAG],
    "overlock_pool": [_POINTER] * 2 + [_SIZE] * 6 + [_FLAG],
    "overlock_mix_keys": [_POINTER] * 3 + [_SIZE] * 5 + [_FLAG],
    "overlock_replay": [_POINTER, _SIZE],
    "overlock_paired": [],
    "overlock_lanes": [],
    "overlock_dense": [_POINTER] * 5 + [_SIZE] * 5 + [_FLAG],
    "overlock_pack_dense": [_POINTER] * 3,
    "overlock_dense_bytes": [_POINTER],
    "overlock_prefers_dense": [],
    "overlock_resample_rows": [_POINTER] * 6 + [_SIZE] * 6,
    "overlock_resample_columns": [_POINTER] * 5 + [_SIZE] * 4,
}
"""Argument types of every function of the C files."""

_RESULTS: dict[str, type] = {
    "overlock_paired": _FLAG,
    "overlock_lanes": _FLAG,
    "overlock_dense_bytes": _SIZE,
    "overlock_prefers_dense": _FLAG,
}
"""Result types; the other functions have none."""


class NativeKernelsError(Exception):
    """The kernels cannot be built or loaded; the message says why."""


_loaded: list[ctypes.CDLL | NativeKernelsError] = []
"""This process's kernels once loaded, or the error; at most one entry."""

_loading = threading.Lock()


@functools.cache  # asked at every call of a kernel
def native_library(folder: Path | None = None) -> ctypes.CDLL:
    """Return the compiled kernels, compiling them if they are not cached.

    Thread-safe. The result of a process's first call, library or error, is final.

    Args:
        folder: cache of compiled kernels; by default below the user's home. Used only by a
            process's first call, and only if no library was prebuilt.

    Raises:
        NativeKernelsError: if there is no compiler, it fails, or its output cannot be written.
    """
    with _loading:
        if not _loaded:
            _loaded.append(_load_or_build(folder))
    kernels = _loaded[0]
    if isinstance(kernels, NativeKernelsError):
        raise NativeKernelsError(str(kernels)) from kernels
    return kernels


def _load_or_build(folder: Path | None) -> ctypes.CDLL | NativeKernelsError:
    try:
        prebuilt = _prebuilt_library()
        if prebuilt is not None:
            return _load(prebuilt)
        default = Path.home() / ".cache" / "overlock-service" / "kernels"
        return _build_cached(folder or default)
    except NativeKernelsError as error:
        return error


def prebuild() -> list[Path]:
    """Compile the kernels for every instruction set of this kind of machine, into ``PREBUILT``.

    Returns:
        The builds, the fastest first.

    Raises:
        NativeKernelsError: if there is no compiler, or it fails.
    """
    PREBUILT.mkdir(exist_ok=True)
    return [
        compile_library(
            PREBUILT / _prebuilt_name(instructions), instructions.flags, PREBUILD_SECONDS
        )
        for instructions in machine_instruction_sets()
    ]


def _prebuilt_library() -> Path | None:
    """Return the best prebuilt library that this processor can run, or None."""
    if not PREBUILT.exists():
        return None
    builds = (PREBUILT / _prebuilt_name(usable) for usable in runnable_instruction_sets())
    return next((build for build in builds if build.exists()), None)


def _prebuilt_name(instructions: InstructionSet) -> str:
    # The digest covers the sources, so that a build of older ones is never loaded.
    digest = hashlib.sha256(" ".join([*FLAGS, *instructions.flags]).encode())
    for source in _sources("*.[ch]"):
        digest.update(source.read_bytes())
    return f"overlock-{instructions.name}-{digest.hexdigest()[:16]}.so"


def _build_cached(folder: Path) -> ctypes.CDLL:
    compiler = _compiler()
    name = f"overlock-{_digest(compiler)}.so"
    cache = _trusted_folder(folder)
    if cache is not None and (cache / name).exists():
        return _load(cache / name)
    try:
        if cache is not None and os.access(cache, os.W_OK):
            with _exclusive_lock(cache):
                if not (cache / name).exists():
                    compile_library(cache / name)
            return _load(cache / name)
        # Files that another user could have written must not be loaded: use a private folder.
        with tempfile.TemporaryDirectory(prefix="overlock-kernels-") as private:
            return _load(compile_library(Path(private) / name))
    except OSError as error:
        raise NativeKernelsError(f"the compiled kernels cannot be written: {error}") from error


@contextmanager
def _exclusive_lock(folder: Path) -> Iterator[None]:
    """Lock a folder against compilation by other processes: a service starts many at once."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # On a file system without locks every process compiles, and the last file stays.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@functools.cache
def cpu_kernels_unsupported_reason(folder: Path | None = None) -> str | None:
    """Return why the kernels do not run on this machine, or None if they do.

    The first call compiles them; ``folder`` as for ``native_library``.
    """
    try:
        native_library(folder)
    except NativeKernelsError as error:
        return str(error)
    return None


def _compiler() -> str:
    for name in COMPILERS:
        path = shutil.which(name)
        if path is not None:
            return path
    reason = f"there is no C compiler (looked for {', '.join(COMPILERS)})"
    if PREBUILT.exists():
        reason += " and no prebuilt library for this processor"
    raise NativeKernelsError(reason)


def _digest(compiler: str) -> str:
    """Return a digest of what a compiled file depends on: sources, flags, compiler, processor."""
    # The predefined macros name the instructions that -march=native enables.
    flags = (*FLAGS, *THIS_PROCESSOR)
    macros = _run([compiler, *flags, "-dM", "-E", "-x", "c", os.devnull])
    digest = hashlib.sha256(macros.encode() + " ".join([compiler, *flags]).encode())
    for source in _sources("*.[ch]"):
        digest.update(source.read_bytes())
    return f"{platform.machine()}-{digest.hexdigest()[:16]}"


def _sources(pattern: str) -> list[Path]:
    return sorted(SOURCES.glob(pattern))


def _trusted_folder(folder: Path) -> Path | None:
    """Create the folder if missing; return it if no other user owns it or can write to it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return None
    status = folder.stat()
    is_private = status.st_uid == os.getuid() and not status.st_mode & 0o022
    return folder if is_private else None


def compile_library(
    target: Path,
    instructions: tuple[str, ...] = THIS_PROCESSOR,
    timeout_seconds: float = COMPILE_SECONDS,
) -> Path:
    """Compile the kernels to a shared library.

    Args:
        target: the library's file, replaced if it exists.
        instructions: compiler flags that select the instruction set.
        timeout_seconds: for the compiler.

    Returns:
        ``target``.

    Raises:
        NativeKernelsError: if there is no compiler, or it fails.
        OSError: if the file cannot be written.
    """
    compiler = _compiler()
    # Several processes may compile at once: each writes a file of its own and renames it.
    descriptor, unfinished = tempfile.mkstemp(suffix=".so", dir=target.parent)
    os.close(descriptor)
    try:
        sources = [str(source) for source in _sources("*.c")]
        flags = (*FLAGS, *instructions)
        _run([compiler, *flags, "-shared", "-o", unfinished, *sources, "-lm"], timeout_seconds)
        Path(unfinished).chmod(0o755)  # mkstemp's 0600 would hide it from an image's users
        Path(unfinished).replace(target)
    finally:
        Path(unfinished).unlink(missing_ok=True)
    return target


def _run(command: list[str], timeout_seconds: float = COMPILE_SECONDS) -> str:
    try:
        completed = subprocess.run(  # noqa: S603 - a compiler from PATH and our own files
            command, capture_output=True, text=True, timeout=timeout_seconds, check=True
        )
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or ["no reason given"])[0]
        raise NativeKernelsError(f"{command[0]} failed: {reason}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NativeKernelsError(f"{command[0]} failed: {error}") from error
    return completed.stdout


def _load(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeKernelsError(f"the compiled kernels cannot be loaded: {error}") from error
    for name, arguments in _SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes = arguments
        function.restype = _RESULTS.get(name)
    return library

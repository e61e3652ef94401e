"""Ray: a private one on this machine for as long as the command runs, or a cluster's."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from service.commands.console.exits import TERMINATED, RefusedError
from service.processes.environment import KEPT_MEMORY

FOLDER_PREFIX = "ov-batch-"

MAX_FOLDER_CHARACTERS = 40
"""Ray puts sockets below its folder, whose paths have at most 107 characters."""

REMOVALS = 20
"""Attempts to remove a folder that processes which are ending still write to."""

CONNECT_SECONDS = 10.0
"""How long a cluster may take to accept a connection."""

LOCAL_VARIABLES = {
    # A thread that is still waiting when the connection ends must not start another Ray.
    "RAY_ENABLE_AUTO_CONNECT": "0",
    # Without it Ray takes the machine's address, and listens on all of them.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
}

VARIABLES = {
    # A thread that is still waiting when the connection ends must not start another Ray.
    "RAY_ENABLE_AUTO_CONNECT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}


@contextmanager
def local_ray(*, cpus: int, gpus: int | None, store_bytes: int) -> Iterator[Any]:
    """Run a Ray of its own on loopback, without a dashboard; end all of it afterwards.

    Args:
        cpus: that it counts, whatever the machine has.
        gpus: that it counts; None for those that it finds.
        store_bytes: size of its object store.

    Yields:
        The module ``ray``.
    """
    _sweep()
    folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=_short_folder()))
    try:
        with ExitStack() as stack:
            stack.enter_context(_locked(folder))
            os.environ.update(LOCAL_VARIABLES | VARIABLES)
            # Decoders and networks begin with it: by default an image's memory may go back to the
            # kernel, which clears it page by page for the next.
            for name, value in KEPT_MEMORY.items():
                os.environ.setdefault(name, value)
            # Other users of the machine reach loopback too.
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
            stack.enter_context(_ray_lines_in(folder / "driver.err"))
            ray = _imported()
            with _working_in(folder):
                ray.init(
                    address="local",
                    num_cpus=cpus,
                    num_gpus=gpus,
                    object_store_memory=store_bytes,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    _node_ip_address="127.0.0.1",
                    _temp_dir=str(folder / "ray"),
                )
            try:
                with _exit_on_sigterm():
                    yield ray
            finally:
                ray.shutdown()
    finally:
        _remove(folder)


@contextmanager
def cluster_ray(address: str) -> Iterator[Any]:
    """Connect to a cluster, which stays as it is.

    Raises:
        RefusedError: if there is none.
    """
    _check_reachable(address)
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="overlock-batch-")))
        stack.enter_context(_ray_lines_in(folder / "driver.err"))
        ray = _imported()
        try:
            # Ray puts this process's folder on the path of the cluster's, where it may hold
            # packages of the same names.
            with _working_in(folder):
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            raise RefusedError(
                f"--ray: this machine has no part in a Ray at {address}, or not its "
                f"RAY_AUTH_TOKEN: {_line(error)}"
            ) from error
        stack.callback(ray.shutdown)
        with _exit_on_sigterm():
            yield ray


def _check_reachable(address: str) -> None:
    """Refuse an address where nothing listens: Ray itself tries again for minutes."""
    if address.startswith("ray://"):
        raise RefusedError(
            f"--ray: {address} is Ray Client's; give the cluster's own address, such as HOST:6379."
        )
    found = re.fullmatch(r"\[?(.+?)\]?:(\d+)", address)
    if found is None:
        return
    try:
        socket.create_connection((found[1], int(found[2])), CONNECT_SECONDS).close()
    except OSError as error:
        raise RefusedError(f"--ray: there is no Ray at {address}: {_line(error)}") from error


def _imported() -> Any:
    """Import Ray and its data package, which looks at the environment then; silence them."""
    import ray
    import ray.data

    for name in ("ray", "ray.data"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.WARNING)
        for handler in list(logger.handlers):
            # Files in Ray's folder keep their lines; the terminal is the command's own.
            if (
                type(handler).__name__ == "PlainRayHandler"
                or type(handler) is logging.StreamHandler
            ):
                logger.removeHandler(handler)
    return ray


def _short_folder() -> str:
    folder = tempfile.gettempdir()
    return folder if len(folder) + len(FOLDER_PREFIX) + 8 <= MAX_FOLDER_CHARACTERS else "/tmp"  # noqa: S108 - mkdtemp's own names


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Mark a folder as in use, for as long as this process lives."""
    with (folder / "lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sweep() -> None:
    """Remove the folders of this user's runs that were killed."""
    for lock in Path(_short_folder()).glob(f"{FOLDER_PREFIX}*/lock"):
        try:
            if lock.stat().st_uid != os.getuid():
                continue
            with lock.open("wb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(lock.parent)
        except OSError:
            continue  # it is in use, or another run has just removed it


def _remove(folder: Path) -> None:
    """Remove a run's folder; the lock goes last, so that what stays is found by a later run."""
    for _ in range(REMOVALS):
        # Ray's processes may write to their logs until they have ended.
        shutil.rmtree(folder / "ray", ignore_errors=True)
        if not (folder / "ray").exists():
            shutil.rmtree(folder, ignore_errors=True)
            return
        time.sleep(0.1)


@contextmanager
def _ray_lines_in(path: Path) -> Iterator[None]:
    """Write to a file what Ray says: its own library on standard error, its threads on output."""
    stream, terminal = sys.stderr, os.dup(2)
    stream.flush()
    with path.open("a", encoding="utf-8") as file, redirect_stdout(file):
        os.dup2(file.fileno(), 2)
        # Of this program's lines none is lost.
        if stream is sys.__stderr__:
            sys.stderr = open(terminal, "w", buffering=1, closefd=False)  # noqa: SIM115
        try:
            yield
        finally:
            sys.stderr = stream
            os.dup2(terminal, 2)
            os.close(terminal)


@contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    """Work in a folder: Ray puts the present one on its workers' path, and starts them there."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """End this process in order on SIGTERM, instead of by Ray's own handler."""

    def leave(_: int, __: FrameType | None) -> NoReturn:
        raise SystemExit(TERMINATED)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__

"""Ray: a private one on this machine for as long as the command runs, or a cluster's."""

from __future__ import annotations

import logging
import os
import re
import secrets
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from service.commands.batch.arguments import PROGRAM
from service.commands.batch.locked_folders import locked, remove, sweep
from service.commands.console.exits import RefusedError, print_error
from service.commands.console.signals import deferring_signals, ending_at_once
from service.processes.environment import KEPT_MEMORY

FOLDER_PREFIX = "ov-batch-"

MAX_FOLDER_CHARACTERS = 40
"""Ray puts sockets below its folder, whose paths have at most 107 characters."""

AUTO = "auto"
"""The address of the cluster that runs on this machine, or that RAY_ADDRESS names."""

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
    sweep(Path(_short_folder()), FOLDER_PREFIX)
    os.environ.update(LOCAL_VARIABLES | VARIABLES)
    # Decoders and networks begin with it: by default an image's memory may go back to the
    # kernel, which clears it page by page for the next.
    for name, value in KEPT_MEMORY.items():
        os.environ.setdefault(name, value)
    # Other users of the machine reach loopback too.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    ray = _imported()
    folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=_short_folder()))
    try:
        with ExitStack() as stack:
            stack.enter_context(locked(folder))
            stack.enter_context(_ray_lines_in(folder / "driver.err"))
            try:
                # Processes of a Ray that has half begun, or half ended, would live on for a minute.
                with _working_in(folder), deferring_signals():
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
                yield ray
            finally:
                with deferring_signals():
                    ray.shutdown()
    finally:
        remove(folder)


@contextmanager
def cluster_ray(address: str) -> Iterator[Any]:
    """Connect to a cluster, which stays as it is.

    Raises:
        RefusedError: if there is none.
    """
    _check_address(address)
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
    ray = _imported()
    if address == AUTO:
        address = _found_address(ray)
    print_error(f"Connecting to the Ray cluster at {address}.", PROGRAM)
    _check_reachable(address)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="overlock-batch-")))
        stack.enter_context(_ray_lines_in(folder / "driver.err"))
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
        yield ray


def _found_address(ray: Any) -> str:
    """Return where ``auto`` leads; a cluster that has ended may have left its address behind."""
    try:
        return str(ray._private.services.get_ray_address_from_environment(AUTO, None))
    except (ConnectionError, ValueError) as error:
        raise RefusedError(
            "--ray auto: no Ray cluster runs on this machine, and RAY_ADDRESS names none; start "
            "one with ray start, or leave --ray out for a Ray of the command's own."
        ) from error


def _check_address(address: str) -> None:
    """Refuse Ray Client's addresses, before anything is imported."""
    if address.startswith("ray://"):
        raise RefusedError(
            f"--ray: {address} is Ray Client's; give the cluster's own address, such as HOST:6379."
        )


def _check_reachable(address: str) -> None:
    """Refuse an address where nothing listens: Ray itself tries again for minutes."""
    found = re.fullmatch(r"\[?(.+?)\]?:(\d+)", address)
    if found is None:
        return
    try:
        socket.create_connection((found[1], int(found[2])), CONNECT_SECONDS).close()
    except OSError as error:
        raise RefusedError(f"--ray: there is no Ray at {address}: {_line(error)}") from error


def _imported() -> Any:
    """Import Ray and its data package, which looks at the environment then; silence them."""
    with ending_at_once():
        import ray
        import ray.data

    # Of a driver's SIGTERM: this program has one of its own.
    ray._private.utils.set_sigterm_handler = lambda _: None
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


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__

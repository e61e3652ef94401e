"""Options of commands that call a running service."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from service.api.schemas import ServedModel
from service.commands.console.exits import RefusedError


def add_options(group: argparse._ActionsContainer, *, timeout_help: str) -> None:
    """Add the options for calling a service, except its address."""
    group.add_argument("--timeout", type=float, metavar="SECONDS", help=timeout_help)
    group.add_argument(
        "--api-key-file", type=Path, metavar="FILE", help="holds the key that the service needs"
    )


def api_key_of(arguments: argparse.Namespace) -> str | None:
    """Return the API key, if one is given.

    Raises:
        RefusedError: if the file holds none.
        OSError: if it cannot be read.
    """
    path: Path | None = arguments.api_key_file
    if path is None:
        return None
    try:
        key = path.read_text("ascii").strip()
    except UnicodeDecodeError as error:
        raise RefusedError(f"{path} holds no key: it is not plain text.") from error
    if not key:
        raise RefusedError(f"{path} holds no key: it is empty.")
    return key


def models_for(task: str, models: Sequence[ServedModel], url: str) -> list[ServedModel]:
    """Return the models that answer a task, at least one.

    Raises:
        RefusedError: if the service has none.
    """
    found = [model for model in models if model.task == task]
    if not found:
        served = ", ".join(dict.fromkeys(model.task for model in models))
        raise RefusedError(f"The service at {url} does not {task}; it serves: {served}.")
    return found

"""Options of commands that call a running service."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from model.config import TRAINED_TASKS_FOR, Task
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


def add_model_option(group: argparse._ActionsContainer) -> None:
    """Add the option that chooses one of a service's models."""
    group.add_argument(
        "--model", metavar="NAME", help="one of the service's models [the task's default one]"
    )


def models_for(
    task: str, models: Sequence[ServedModel], url: str, name: str | None = None
) -> list[ServedModel]:
    """Return a service's model on each of its devices.

    Args:
        task: that it has to perform.
        models: of the service.
        url: of the service, for messages.
        name: of the model; None for the task's default one.

    Raises:
        RefusedError: if the service has none.
    """
    able = [model for model in models if model.task in TRAINED_TASKS_FOR[Task(task)]]
    if not able:
        served = ", ".join(dict.fromkeys(model.task for model in models))
        raise RefusedError(f"The service at {url} does not {task}; it serves: {served}.")
    # Of each task the default model comes first, and so does the task that answers by default.
    wanted = able[0].name if name is None else name
    found = [model for model in able if model.name == wanted]
    if not found:
        known = ", ".join(dict.fromkeys(model.name for model in able))
        raise RefusedError(
            f"The service at {url} has no model {name} that can {task}; it has {known}."
        )
    return found

"""The models file: a TOML table for each model to serve.

Format: ``docs/models-file.md``. Paths in it are relative to the file.
"""

from __future__ import annotations

import dataclasses
import difflib
import stat
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from model.config import TRAINED_TASKS, BackboneConfig, Interpolation, NetworkKind, Task
from model.images.input_config import InputOptions
from model.remote.addresses import is_address
from service.settings.model_spec import Activation, ModelSpec, spec_of_variables
from service.settings.models_folder import FILE_NAME, lone_weights_text, models_file_in, unreadable
from service.settings.settings import PREFIX, Settings, SettingsError
from service.settings.values import MODEL_NAME, MODELS

NAMED_WEIGHTS = {"demo", "pretrained", "random"}
"""Weights that are no path."""

TASK_OF_KIND: dict[NetworkKind, Task] = {
    "classifier": Task.CLASSIFY,
    "upernet": Task.SEGMENT,
    "mask_rcnn": Task.DETECT,
    "cascade_mask_rcnn": Task.DETECT,
}

OF_CLASSIFIERS = ("input_size", "crop_pct", "interpolation")
"""Keys of an input that dense networks have no use for: their geometry is published."""

BACKBONE = tuple(BackboneConfig.__dataclass_fields__)
"""Keys of a table of a backbone of one's own."""

SENTENCES = {
    "dict_type": "it is a table of its own",
    "string_pattern_mismatch": "it is 64 hexadecimal digits",
    "string_too_short": "it is empty",
    "too_long": "it has a value for each channel, 3 at most",
    "too_short": "it has a value for each channel, in a list",
    "tuple_type": "it is a list, with a value for each channel",
}
"""What a value is, where pydantic's words are of Python, by the kind of its error."""


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise PydanticCustomError("nul", "it contains the character 0")
    return text


FilePath = Annotated[str, Field(min_length=1), AfterValidator(_without_nul)]

PerChannel = Annotated[tuple[float, ...], Field(min_length=1, max_length=3)]


class _Table(BaseModel):
    """One model's table; values as TOML has them, without conversions."""

    model_config = ConfigDict(extra="forbid", strict=True)

    architecture: str | None = None
    backbone: dict[str, Any] | None = None
    kind: NetworkKind | None = None
    weights: FilePath | None = None
    task: Literal["classify", "segment", "detect"] | None = None
    labels: FilePath | None = None
    input_size: int | None = None
    crop_pct: float | None = None
    interpolation: Interpolation | None = None
    mean: PerChannel | None = None
    std: PerChannel | None = None
    activation: Activation | None = None
    ema: bool = True
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = None
    default: bool = False


def specs_of(settings: Settings, copy: Path | None = None) -> tuple[ModelSpec, ...]:
    """Return the models to serve, in the order of their tasks, of each the default first.

    Args:
        settings: the service's.
        copy: of the models file, as it was read before; None to read it now.

    Raises:
        SettingsError: if the models file is wrong, see ``read_models_file``; or if there is a
            name for the only model, and there are several.
    """
    if settings.models_file is not None:
        specs = read_models_file(settings.models_file, copy)
    else:
        stated = [spec_of_variables(settings, task) for task in TRAINED_TASKS]
        specs = tuple(spec for spec in stated if spec is not None)
    if settings.model_name is None:
        return specs
    if len(specs) > 1:
        names = ", ".join(f"{spec.name} ({spec.task})" for spec in specs)
        raise SettingsError(
            f"{PREFIX}MODEL_NAME is the name of the only model, but there are several: {names}; "
            "leave one."
        )
    return (dataclasses.replace(specs[0], name=settings.model_name),)


def models_text(path: Path) -> bytes:
    """Return the models file as it is.

    Args:
        path: of the file, or of a folder; see ``models_file_in``.

    Raises:
        SettingsError: if it cannot be read, or is not a file: the end of a pipe may never come.
    """
    file = models_file_in(path)
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise SettingsError(f"{PREFIX}MODELS_FILE: {file} is not a file.")
        is_weights = file != path and file.name != FILE_NAME
        return lone_weights_text(file) if is_weights else file.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error


def read_models_file(path: Path, copy: Path | None = None) -> tuple[ModelSpec, ...]:
    """Read the models that a file states, in the order of their tasks, of each the default first.

    Args:
        path: of the file, to which the paths in it are relative; or of a folder.
        copy: a file with the same text, to be read in its place.

    Raises:
        SettingsError: with a sentence for every mistake: the file cannot be read or is not valid
            TOML, a misspelt key, a value that does not fit, no weights, two defaults of a task.
    """
    text = models_text(copy or path)
    path = models_file_in(path)
    try:
        tables = tomllib.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # no UTF-8, or no TOML
        raise SettingsError(f"{PREFIX}MODELS_FILE: {path} is not valid TOML: {error}.") from error
    problems: list[str] = []
    specs = []
    for name, table in tables.items():
        try:
            specs.append(_spec(path, name, table))
        except ValueError as error:
            problems += str(error).splitlines()
    problems += _rival_defaults(path, specs)
    if not tables:
        problems.append(f"{path} states no model: give each one a table such as [birds].")
    if problems:
        raise SettingsError("\n".join(problems))
    return tuple(sorted(specs, key=lambda spec: ([*Task].index(spec.task), not spec.default)))


def _spec(path: Path, name: str, value: Any) -> ModelSpec:
    where = f"{path}, [{_printable(name)}]"
    if not isinstance(value, dict):
        raise ValueError(
            f"{path}: {_printable(name)} is outside of any table; begin one such as [birds]."
        )
    if not MODEL_NAME.fullmatch(name):
        raise ValueError(
            f"{where}: a name has 1 to 64 letters, digits, dots, underscores and hyphens."
        )
    try:
        table = _Table.model_validate(_with_tuples(value))
    except ValidationError as error:
        raise ValueError("\n".join(_explained(where, name, error))) from error
    task = _task_of(where, table) if table.backbone is None else _task_of_kind(where, table)
    return ModelSpec(
        name=name,
        task=task,
        architecture=table.architecture,
        weights=_weights_of(path, where, table),
        labels=None if table.labels is None else path.parent / table.labels,
        input=_input_of(where, table, task),
        activation=table.activation,
        ema=table.ema,
        sha256=table.sha256 and table.sha256.lower(),
        backbone=_backbone_of(f"{path}, [{name}.backbone]", table),
        kind=table.kind,
        default=table.default,
        blames={key: f"{where} {key}" for key in _Table.model_fields},
    )


def _weights_of(path: Path, where: str, table: _Table) -> str:
    weights = table.weights or ("demo" if table.architecture == "demo" else None)
    if weights is None:
        raise ValueError(
            f'{where} weights are missing: give a path, an address, "pretrained" or "random".'
        )
    if weights in NAMED_WEIGHTS or is_address(weights):
        return weights
    joined = str(path.parent / weights)
    return f"./{joined}" if joined in NAMED_WEIGHTS else joined  # "./random" is a file's path


def _input_of(where: str, table: _Table, task: Task) -> InputOptions:
    stated = {key: getattr(table, key) for key in InputOptions.__dataclass_fields__}
    for key in (*OF_CLASSIFIERS, "activation"):
        if task is not Task.CLASSIFY and getattr(table, key) is not None:
            raise ValueError(f"{where} {key} can be set for a classifier alone.")
    try:
        return InputOptions(**stated)
    except ValueError as error:
        raise ValueError(f"{where} {error}.") from error


def _backbone_of(where: str, table: _Table) -> dict[str, Any]:
    """Return what is stated of a backbone; whether it fits, its file says."""
    stated = _with_tuples(table.backbone or {})
    for key in stated:
        if key not in BACKBONE:
            raise ValueError(f"{where}: there is no key {key}. {_hint(key, BACKBONE)}")
    if table.backbone is not None and table.weights == "random":
        try:
            BackboneConfig(**stated)
        except TypeError as error:
            needed = ", ".join(BACKBONE[:4])
            raise ValueError(f"{where}: random weights need {needed}.") from error
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    return stated


def _task_of_kind(where: str, table: _Table) -> Task:
    """Return the task of a network on a backbone of one's own."""
    for key in ("architecture", "task"):
        if getattr(table, key) is not None:
            raise ValueError(f"{where} {key}: a network on a backbone of one's own has a kind.")
    return TASK_OF_KIND[table.kind or "classifier"]


def _hint(key: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    return f"Is it {close[0]}?" if close else f"There are {', '.join(known)}."


def _with_tuples(table: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(each) if isinstance(each, list) else each for key, each in table.items()}


def _task_of(where: str, table: _Table) -> Task:
    """Return the task of a table's architecture."""
    if table.architecture is None:
        raise ValueError(f"{where}: architecture is missing, or a table of its own backbone.")
    if table.kind is not None:
        raise ValueError(f"{where} kind: {table.architecture} says what it is.")
    tasks = [task for task, names in MODELS.items() if table.architecture in names]
    if not tasks:
        names = list(dict.fromkeys(name for names in MODELS.values() for name in names))
        hint = _hint(table.architecture, names)
        raise ValueError(f'{where} architecture: there is no "{table.architecture}". {hint}')
    if table.task is None:
        return tasks[0]
    if table.task not in tasks:
        raise ValueError(
            f'{where} task is "{table.task}", but {table.architecture} can {" or ".join(tasks)}.'
        )
    return Task(table.task)


def _rival_defaults(path: Path, specs: list[ModelSpec]) -> Iterator[str]:
    for task in TRAINED_TASKS:
        names = [f"[{spec.name}]" for spec in specs if spec.task is task and spec.default]
        if len(names) > 1:
            yield f"{path}: {' and '.join(names)} are all the default to {task}; leave one."


def _explained(where: str, name: str, error: ValidationError) -> Iterator[str]:
    """Yield a sentence for each key."""
    keys = [*_Table.model_fields]
    for key, problem in {str(each["loc"][0]): each for each in reversed(error.errors())}.items():
        if problem["type"] == "extra_forbidden":
            hint = _hint(key, keys)
            if isinstance(problem["input"], dict) and not difflib.get_close_matches(key, keys):
                hint = f'A name with a dot has quotes: ["{name}.{_printable(key)}"].'
            yield f"{where}: there is no key {_printable(key)}. {hint}"
        else:
            words = problem["msg"][:1].lower() + problem["msg"][1:]
            message = SENTENCES.get(problem["type"], words)
            yield f"{where} {key}: {message} (given: {_shown(problem['input'])})."


def _shown(value: Any) -> str:
    return repr([*value] if isinstance(value, tuple) else value)


def _printable(name: str) -> str:
    return name if name.isprintable() else ascii(name)

"""Conversion of parsed options to a request and settings; errors name the option."""

from __future__ import annotations

import argparse
from typing import Any

from pydantic import ValidationError

from model.config import TRAINED_TASKS, TRAINED_TASKS_FOR, Task
from model.pretrained.assets import ASSETS, PRETRAINED
from service.api.queries import (
    ClassifyQuery,
    DetectQuery,
    EmbedQuery,
    ExplainQuery,
    SegmentQuery,
)
from service.commands.console.exits import RefusedError
from service.commands.console.input_options import named_in, option_of, with_options
from service.commands.predict.arguments import LOCAL_OPTIONS, REMOTE_OPTIONS, networks_for
from service.commands.predict.outcome import PredictRequest, Query
from service.settings import (
    OFF,
    PREFIX,
    ModelSpec,
    Settings,
    SettingsError,
    load_settings,
    specs_of,
)

MAX_AT_ONCE = 256
"""Upper bound of the images in a batch and of the requests in flight."""


def request_of(arguments: argparse.Namespace) -> PredictRequest:
    """Return the request for every image.

    Raises:
        RefusedError: for a value out of range.
    """
    saves = arguments.save is not None
    try:
        return PredictRequest(_query(arguments, saves=saves), saves)
    except ValidationError as error:
        (problem, *_) = error.errors()
        option = option_of(str(problem["loc"][0]))
        reason = problem["msg"].removeprefix("Value error, ")  # pydantic's, of our own checks
        raise RefusedError(f"{option}: {reason}; it is {problem['input']}.") from error


def _query(arguments: argparse.Namespace, *, saves: bool) -> Query:
    # In this process it names a network, or a table of a models file.
    model = None if arguments.url is None else arguments.model
    match Task(arguments.task):
        case Task.CLASSIFY:
            return ClassifyQuery(**_given(top_k=arguments.top_k, model=model))
        case Task.SEGMENT:
            return SegmentQuery(
                mask=arguments.mask,
                view="overlay",
                model=model,
                **_given(tile=arguments.tile, overlap=arguments.overlap),
            )
        case Task.DETECT:
            return DetectQuery(
                **_given(
                    model=model,
                    score_threshold=arguments.score_threshold,
                    max_detections=arguments.max_detections,
                    tile=arguments.tile,
                    overlap=arguments.overlap,
                ),
                # A table shows no masks.
                masks=not arguments.no_masks and (arguments.json or saves),
            )
        case Task.EMBED:
            return EmbedQuery(layer=arguments.layer, normalize=arguments.normalize, model=model)
        case Task.EXPLAIN:
            return ExplainQuery(
                **_given(
                    top_k=arguments.top_k,
                    class_id=arguments.class_id,
                    view=arguments.view,
                    model=model,
                )
            )


def settings_of(arguments: argparse.Namespace) -> tuple[Settings, ModelSpec]:
    """Return the service's settings with those of the options, and the model to predict with.

    Raises:
        RefusedError: if an option, a variable or the models file is wrong.
    """
    try:
        if arguments.models_file is None and arguments.weights is None:
            # As with the option, --model is a name of the variable's file.
            file = load_settings().models_file
            arguments = argparse.Namespace(**vars(arguments) | {"models_file": file})
        settings = load_settings(_overrides(arguments))
        spec = _chosen(arguments, settings)
    except SettingsError as error:
        message = str(error)
        for name, option in _names(_network(arguments)[0]).items():
            message = message.replace(PREFIX + name.upper(), option_of(option))
        raise RefusedError(message) from error
    # Compiling takes minutes, which no folder of images makes up for.
    return settings.model_copy(update={"compile": "off"}), with_options(spec, arguments)


def _network(arguments: argparse.Namespace) -> tuple[Task, str | None]:
    """Return the task whose settings the options state, and the architecture if one is named."""
    task = Task(arguments.task)
    if arguments.model is None or arguments.models_file is not None:
        return TRAINED_TASKS_FOR[task][0], None
    networks = networks_for(task)
    if arguments.model not in networks:
        raise RefusedError(
            f"--model: no model {arguments.model!r} can {task}; there are {', '.join(networks)}."
        )
    return networks[arguments.model]


def _names(task: Task) -> dict[str, str]:
    """Return the settings that options state, and the options."""
    return {
        f"{task}_model": "model",
        f"{task}_weights": "weights",
        f"{task}_labels": "labels",
        "models_file": "models_file",
        "devices": "device",
        "dtype": "dtype",
    }


def _overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    task, architecture = _network(arguments)
    stated = {**vars(arguments), "model": architecture}
    overrides = _given(**{name: stated[option] for name, option in _names(task).items()})
    # A name for the only model is the service's; here the environment may state several.
    overrides["model_name"] = None
    if arguments.models_file is not None:
        for option in ("weights", "labels"):
            if getattr(arguments, option) is not None:
                raise RefusedError(f"--models-file states the models, and their {option} too.")
        # --model is a name of the file.
        family = {
            f"{each}_{part}": OFF if part == "model" else None
            for each in TRAINED_TASKS
            for part in ("model", "weights", "labels")
        }
        return overrides | family
    if arguments.model is not None:
        # Weights and labels in the environment are those of another model.
        overrides = {f"{task}_weights": None, f"{task}_labels": None} | overrides
    if arguments.weights is not None:
        overrides["models_file"] = None
    return overrides


def _chosen(arguments: argparse.Namespace, settings: Settings) -> ModelSpec:
    task, specs = Task(arguments.task), specs_of(settings)
    if settings.models_file is not None:
        return named_in(specs, settings.models_file, task, arguments.model)
    stated = any(getattr(arguments, name) is not None for name in ("model", "weights", "labels"))
    able = (_network(arguments)[0],) if stated else TRAINED_TASKS_FOR[task]
    for spec in specs:
        if spec.task in able:
            return _with_published_weights(spec, arguments)
    raise RefusedError(f"Give --model and --weights: there are {', '.join(networks_for(task))}.")


def _with_published_weights(spec: ModelSpec, arguments: argparse.Namespace) -> ModelSpec:
    """Refuse published weights of a model that has none, if none is named."""
    if arguments.model is None and spec.weights == PRETRAINED and spec.architecture not in ASSETS:
        published = [
            name
            for name, (_, architecture) in networks_for(Task(arguments.task)).items()
            if architecture in ASSETS
        ]
        raise RefusedError(f"--weights pretrained needs --model: give {', '.join(published)}.")
    return spec


def checked_count(given: int | None, default: int, option: str) -> int:
    """Return the count that is given, or the default.

    Raises:
        RefusedError: if it is out of range.
    """
    if given is not None and not 1 <= given <= MAX_AT_ONCE:
        raise RefusedError(f"{option_of(option)} is {given}; it has to be from 1 to {MAX_AT_ONCE}.")
    return default if given is None else given


def refuse_mixed(arguments: argparse.Namespace) -> None:
    """Refuse options that would have no effect.

    Raises:
        RefusedError: if such an option is given.
    """
    if getattr(arguments, "view", None) is not None and arguments.save is None:
        raise RefusedError("--view has no effect without --save.")
    local = arguments.url is None
    for name in REMOTE_OPTIONS if local else LOCAL_OPTIONS:
        if getattr(arguments, name) is not None:
            raise RefusedError(
                f"{option_of(name)} has no effect {'without' if local else 'with'} --url."
            )


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}

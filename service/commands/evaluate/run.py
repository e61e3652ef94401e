"""Measure a network on a data set, or merge reports.

Standard output gets the result, standard error the progress and error messages.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from model.config import (
    CLASSIFIERS,
    DETECTORS,
    IMAGE_MEAN,
    IMAGE_STD,
    SEGMENTERS,
    ClassificationGeometry,
    Task,
)
from model.evaluation.images import EvaluationError
from model.evaluation.measuring import measure, span
from model.evaluation.report import (
    Counts,
    EvaluationReport,
    is_comparable,
    merge,
    published_metrics,
    save,
)
from model.images.input_config import InputConfig, InputOptionError, InputSource
from model.inference.devices import find_device
from model.inference.dtype_selection import DTYPES
from model.inference.predictor import Predictor
from model.pretrained.records import weights_folder
from model.remote.addresses import without_secrets
from model.scenes.scenes import CLASS_NAMES, SEGMENT_NAMES
from model.zoo import LoadedModel, load_model
from service.commands.console.exits import DONE, RefusedError, print_error
from service.commands.console.input_options import input_options_of, named_in, with_options
from service.commands.console.signals import INTERRUPTED
from service.commands.evaluate.arguments import PROGRAM
from service.commands.evaluate.setups import Setup, set_up
from service.commands.evaluate.table import as_text
from service.engine.descriptions import check_digest, labels_of
from service.settings import ModelSpec, SettingsError
from service.settings.models_file import read_models_file

MODELS: dict[Task, tuple[str, dict[str, Any]]] = {
    Task.CLASSIFY: ("classifier", CLASSIFIERS),
    Task.SEGMENT: ("segmenter", SEGMENTERS),
    Task.DETECT: ("detector", DETECTORS),
}
"""Name of each task's kind of network, and the table of these networks."""

SCENE_CLASSES = {Task.CLASSIFY: len(CLASS_NAMES), Task.SEGMENT: len(SEGMENT_NAMES)}


def run(arguments: argparse.Namespace) -> int:
    """Evaluate or merge as the arguments say; return the exit code.

    Raises:
        RefusedError: if it cannot be done.
    """
    try:
        _check_output(arguments.output)
        return _merge(arguments) if arguments.task == "merge" else _evaluate(arguments)
    except torch.OutOfMemoryError as error:
        raise RefusedError("The device has too little memory for this.") from error
    except (EvaluationError, SettingsError) as error:
        raise RefusedError(" ".join(str(error).split())) from error


def _evaluate(arguments: argparse.Namespace) -> int:
    task = Task(arguments.task)
    spec = with_options(_spec(arguments, task), arguments)
    if task is Task.DETECT:
        _check_detection_data(arguments)
    try:
        device = find_device(arguments.device)
    except ValueError as error:
        raise EvaluationError(str(error)) from error
    loaded = _load(arguments, spec)
    dtype = DTYPES[arguments.dtype]
    predictor = Predictor(loaded.network, device, dtype, input_config=loaded.input)
    setup = set_up(arguments, loaded, predictor)
    indexes = span(len(setup.data), arguments.offset, arguments.limit)
    started = time.monotonic()
    finished = measure(setup.measurement, setup.data, indexes, setup.batch_size)
    seconds = time.monotonic() - started
    if task is Task.DETECT:
        print_error("comparing the detections with the annotations", PROGRAM)
    report = _report(arguments, spec, loaded, setup, device, seconds)
    _finish(report, setup.counts, arguments.output)
    return DONE if finished else INTERRUPTED


def _merge(arguments: argparse.Namespace) -> int:
    report, counts = merge(arguments.reports, _command())
    _finish(report, counts, arguments.output)
    return DONE


def _finish(report: EvaluationReport, counts: Counts, output: Path | None) -> None:
    if output is not None:
        save(report, counts, output)
    sys.stdout.write(as_text(report) + "\n")
    sys.stdout.flush()


def _check_output(output: Path | None) -> None:
    """Check before hours of measuring that the result can be written."""
    if output is not None and (output.is_dir() or not output.parent.is_dir()):
        raise EvaluationError(f"The result cannot be written to {output}: there is no such folder.")


def _spec(arguments: argparse.Namespace, task: Task) -> ModelSpec:
    """Return the model that the options name, or that a models file states."""
    name, weights, path = arguments.model, arguments.weights, arguments.models_file
    if path is not None:
        if weights is not None:
            raise RefusedError("--models-file states the models, and their weights too.")
        return _measurable(named_in(read_models_file(path), path, task, name))
    if name is None or weights is None:
        raise RefusedError("Give --model and --weights, or --models-file.")
    _check_model(task, name)
    return ModelSpec(name, task, name, weights)


def _measurable(spec: ModelSpec) -> ModelSpec:
    if spec.activation == "sigmoid":
        raise RefusedError(
            f"{spec.blame('activation')} is sigmoid, for several labels an image; top-1 accuracy "
            "is of one."
        )
    return spec


def _check_model(task: Task, name: str) -> None:
    kind, models = MODELS[task]
    if name in models:
        return
    for other_task, (other_kind, others) in MODELS.items():
        if name in others:
            raise EvaluationError(
                f"{name} is a {other_kind}: {PROGRAM} {other_task} --model {name} ..."
            )
    raise EvaluationError(f"There is no {kind} {name!r}; there are {', '.join(models)}.")


def _check_detection_data(arguments: argparse.Namespace) -> None:
    if arguments.data == "demo":
        raise EvaluationError(
            "The drawn scenes have no boxes: a detector needs data with COCO annotations."
        )
    if arguments.data is None and (arguments.annotations is None or arguments.images is None):
        raise EvaluationError("Give --data, or both --annotations and --images.")


def _load(arguments: argparse.Namespace, spec: ModelSpec) -> LoadedModel:
    # A network with random weights can have any number of classes.
    fits_scenes = spec.weights == "random" and arguments.data == "demo"
    num_classes = SCENE_CLASSES[spec.task] if fits_scenes else None
    try:
        loaded = load_model(
            spec.network,
            weights=spec.weights,
            task=spec.task,
            kind=spec.kind,
            num_classes=num_classes,
            pretrained_folder=arguments.cache_dir and weights_folder(arguments.cache_dir),
            ema=spec.ema,
            input_options=spec.input,
        )
        check_digest(spec, loaded)
        return replace(loaded, labels=labels_of(loaded, spec.task, spec.labels))
    except InputOptionError as error:
        raise EvaluationError(f"{spec.blame(error.name)}: {error}") from error
    except ValueError as error:
        raise EvaluationError(str(error)) from error


def _report(
    arguments: argparse.Namespace,
    spec: ModelSpec,
    loaded: LoadedModel,
    setup: Setup,
    device: torch.device,
    seconds: float,
) -> EvaluationReport:
    task, classes, items = Task(arguments.task), len(loaded.labels), setup.counts.items
    weights = Path(loaded.weights).name
    config, published = loaded.input, loaded.config.geometry
    values, options = _values_of(config), input_options_of(arguments).stated
    comparable = is_comparable(
        task,
        weights,
        setup.place,
        classes=classes,
        covers_all_classes=setup.data.covers_all_classes,
        published_input=spec.architecture is not None
        and (config.geometry, config.mean, config.std) == (published, IMAGE_MEAN, IMAGE_STD),
    )
    return EvaluationReport(
        task=task,
        model=spec.name,
        weights=weights,
        digest=loaded.digest,
        weights_kind=loaded.weights_kind,
        input=values,
        input_from={name: _source(config, name, options) for name in values},
        data=setup.place,
        data_items=len(setup.data),
        classes=classes,
        comparable=comparable,
        settings={"dtype": arguments.dtype, **setup.settings},
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        offset=arguments.offset,
        limit=arguments.limit,
        ranges=[[arguments.offset, arguments.offset + items]],
        items=items,
        metrics=setup.counts.metrics(),
        published=published_metrics(task, loaded.name, weights, comparable=comparable),
        counts=setup.counts.as_json(),
        command=_command(),
        torch=torch.__version__,
        seconds=round(seconds, 3),
    )


def _values_of(config: InputConfig) -> dict[str, Any]:
    """Return the values of an input as the options name them."""
    geometry = config.geometry
    values: dict[str, Any] = (
        {
            "input_size": geometry.crop_size,
            "crop_pct": geometry.crop_fraction,
            "interpolation": geometry.interpolation,
        }
        if isinstance(geometry, ClassificationGeometry)
        else {"short_side": geometry.short_side, "long_side": geometry.long_side}
    )
    return {**values, "mean": [*config.mean], "std": [*config.std]}


def _source(config: InputConfig, name: str, options: Sequence[str]) -> str:
    return "option" if name in options else config.sources.get(name, InputSource.ARCHITECTURE).value


def _command() -> str:
    return shlex.join([*PROGRAM.split(), *map(_without_secrets, sys.argv[1:])])


def _without_secrets(word: str) -> str:
    """Return a word of the command; the report that shows it is kept."""
    option, equals, value = word.partition("=")
    if option.startswith("--") and equals:
        return f"{option}={without_secrets(value)}"
    return without_secrets(word)

"""The files to write and what they are made of, from the options; torch-free."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from model.config import CLASSIFIERS, DETECTORS, SEGMENTERS, Task
from model.remote.extras import install_extra
from service.commands.console.exits import RefusedError
from service.commands.console.input_options import with_options
from service.commands.export.arguments import SIDE_MULTIPLE, SUFFIXES, Format
from service.settings import ModelSpec, SettingsError
from service.settings.models_file import read_models_file

PACKAGES = ("onnx", "onnxruntime", "onnxscript")
"""Of the extra ``export``."""

TABLES: Mapping[Task, Mapping[str, Any]] = {
    Task.CLASSIFY: CLASSIFIERS,
    Task.SEGMENT: SEGMENTERS,
    Task.DETECT: DETECTORS,
}

Size = tuple[int, int]
"""Height and width, pixels."""


@dataclass(frozen=True)
class ExportPlan:
    """What to export.

    Attributes:
        spec: the model.
        form: of the files.
        files: path of each, and the size of a segmenter's input; None for a classifier's, which
            its weights may state.
        image: to compare on, beside drawn scenes; None for none.
        cache_folder: of pretrained weights; None for the settings'.
    """

    spec: ModelSpec
    form: Format
    files: tuple[tuple[Path, Size | None], ...]
    image: Path | None
    cache_folder: Path | None


def plan_of(arguments: argparse.Namespace) -> ExportPlan:
    """Return what the options say.

    Raises:
        RefusedError: if it cannot be done, with what to change.
    """
    _refuse_paths(arguments)
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if arguments.format == "onnx" and missing:
        raise RefusedError(
            f"overlock export onnx needs {', '.join(missing)}: {install_extra('export')}."
        )
    try:
        spec = _named(arguments) if arguments.models_file is None else _listed(arguments)
    except SettingsError as error:
        raise RefusedError(str(error)) from error
    if spec.task is Task.DETECT:
        raise RefusedError(
            f"{spec.name} is a detector: it has as many boxes as an image has objects, and picks "
            "them outside of a graph. Classifiers and segmenters can be exported."
        )
    return ExportPlan(
        spec=with_options(spec, arguments),
        form=arguments.format,
        files=_files(arguments.output, spec, tuple(dict.fromkeys(arguments.size or ()))),
        image=arguments.image,
        cache_folder=arguments.cache_dir,
    )


def _refuse_paths(arguments: argparse.Namespace) -> None:
    path, suffix = arguments.output, SUFFIXES[arguments.format]
    if path.suffix != suffix:
        raise RefusedError(f"-o {path}: the file's name has to end with {suffix}.")
    if not path.parent.is_dir():
        raise RefusedError(f"-o {path}: there is no folder {path.parent}.")
    if path.is_dir():
        raise RefusedError(f"-o {path} is a folder.")
    if arguments.image is not None and not arguments.image.is_file():
        raise RefusedError(f"--image {arguments.image}: there is no such file.")


def _named(arguments: argparse.Namespace) -> ModelSpec:
    name, weights = arguments.name, arguments.weights
    tasks = [task for task, names in TABLES.items() if name in names]
    if not tasks:
        known = dict.fromkeys((*CLASSIFIERS, *SEGMENTERS))
        raise RefusedError(
            f"There is no network {name}; there are {', '.join(known)}, and the names of a "
            "--models-file."
        )
    task = Task(arguments.task or tasks[0])
    if task not in tasks:
        raise RefusedError(f"--task is {task}, but {name} can {' or '.join(tasks)}.")
    if weights is None:
        raise RefusedError(f"Give --weights of {name}: a path, pretrained, random or demo.")
    return ModelSpec(name, task, name, weights, arguments.labels)


def _listed(arguments: argparse.Namespace) -> ModelSpec:
    name, path = arguments.name, arguments.models_file
    for option in ("weights", "labels", "task"):
        if getattr(arguments, option) is not None:
            raise RefusedError(f"--models-file states the models, and their {option} too.")
    specs = {spec.name: spec for spec in read_models_file(path)}
    if name not in specs:
        raise RefusedError(f"{path} has no model {name}; it has {', '.join(specs)}.")
    return specs[name]


def _files(
    output: Path, spec: ModelSpec, sizes: tuple[Size, ...]
) -> tuple[tuple[Path, Size | None], ...]:
    if spec.task is Task.CLASSIFY:
        if sizes:
            raise RefusedError("--size is for segmenters; a classifier has --input-size.")
        return ((output, None),)
    if not sizes:
        raise RefusedError(
            f"Give --size: {spec.name} is a segmenter, and a file is for one height and width, "
            f"multiples of {SIDE_MULTIPLE}, such as --size 512x704."
        )
    if len(sizes) == 1:
        return ((output, sizes[0]),)
    return tuple(
        (output.with_stem(f"{output.stem}-{height}x{width}"), (height, width))
        for height, width in sizes
    )

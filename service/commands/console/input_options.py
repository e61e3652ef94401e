"""The options of ``predict`` and ``evaluate`` on a model and on what is done to its images."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from model.config import TRAINED_TASKS_FOR, Task
from model.images.input_config import InputOptions
from service.commands.console.exits import RefusedError
from service.commands.console.option_words import setting_help
from service.settings import ModelSpec

NAMES = ("raw", "input_size", "crop_pct", "interpolation", "mean", "std")

SAID = "[the checkpoint's own, else the architecture's]"


def add_models_file(group: argparse._ArgumentGroup) -> None:
    """Add the option of a models file."""
    group.add_argument(
        "--models-file",
        type=Path,
        metavar="FILE",
        help=f"{setting_help('models_file')}; --model is a name in it [none]",
    )


def named_in(specs: Sequence[ModelSpec], path: Path, task: Task, name: str | None) -> ModelSpec:
    """Return a model of a models file that can do a task: that of a name, or the default one.

    Raises:
        RefusedError: if there is none.
    """
    able = [spec for spec in specs if spec.task in TRAINED_TASKS_FOR[task]]
    for spec in able:
        if name in {None, spec.name}:
            return spec
    asked = f"no model {name}" if name else "no model"
    known = ", ".join(spec.name for spec in able)
    raise RefusedError(
        f"{path} has {asked} that can {task}" + (f"; it has {known}." if known else ".")
    )


def with_options(spec: ModelSpec, arguments: argparse.Namespace) -> ModelSpec:
    """Return a model with what the options state of its weights and input.

    Raises:
        RefusedError: for a value out of its limits.
    """
    options = input_options_of(arguments)
    stated = {name: getattr(options, name) for name in options.stated}
    given = [name for name in ("weights", "labels") if getattr(arguments, name, None) is not None]
    return replace(
        spec,
        input=replace(spec.input, **stated),
        ema=spec.ema and not arguments.raw,
        blames={**spec.blames, **{name: option_of(name) for name in (*stated, *given)}},
    )


def option_of(name: str) -> str:
    """Return the option that states a value."""
    return "--" + name.replace("_", "-")


def add_input_options(group: argparse._ArgumentGroup) -> None:
    """Add the options, named and meant as timm's; those that are not given are None."""
    group.add_argument(
        "--raw",
        action="store_const",
        const=True,
        help="take the raw weights of a file that has EMA weights too [EMA]",
    )
    group.add_argument(
        "--input-size",
        type=int,
        metavar="N",
        help=f"side of a classifier's input, pixels {SAID}",
    )
    group.add_argument(
        "--crop-pct",
        type=float,
        metavar="F",
        help=f"part of the resized short side that a classifier's crop keeps {SAID}",
    )
    group.add_argument(
        "--interpolation",
        choices=("bicubic", "bilinear"),
        help=f"of a classifier's resize {SAID}",
    )
    for name, what in (("mean", "mean"), ("std", "standard deviation")):
        group.add_argument(
            f"--{name}",
            type=float,
            nargs="+",
            metavar="V",
            help=f"{what} of each channel, of values from 0 to 1 {SAID}",
        )


def input_options_of(arguments: argparse.Namespace) -> InputOptions:
    """Return what the options state of the input.

    Raises:
        RefusedError: for a value out of its limits.
    """
    try:
        return InputOptions(
            input_size=arguments.input_size,
            crop_pct=arguments.crop_pct,
            interpolation=arguments.interpolation,
            mean=None if arguments.mean is None else tuple(arguments.mean),
            std=None if arguments.std is None else tuple(arguments.std),
        )
    except ValueError as error:
        name, _, rest = str(error).partition(" ")
        raise RefusedError(f"{option_of(name)} {rest}.") from error

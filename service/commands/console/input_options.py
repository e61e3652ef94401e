"""The options of ``predict`` and ``evaluate`` on weights and on what is done to an image."""

from __future__ import annotations

import argparse

from model.images.input_config import InputOptions
from service.commands.console.exits import RefusedError

NAMES = ("raw", "input_size", "crop_pct", "interpolation", "mean", "std")

SAID = "[the checkpoint's own, else the architecture's]"


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
        raise RefusedError(f"--{name.replace('_', '-')} {rest}.") from error

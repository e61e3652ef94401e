"""The options of ``overlock export``. Torch-free, so that help is fast."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Literal, get_args

from model.config import CLASSIFIERS, SEGMENTERS, Task
from model.images.input_config import MAXIMUM_INPUT_SIZE
from service.commands.console.input_options import add_input_options
from service.commands.console.option_words import setting_help, weights_help
from service.commands.download.arguments import add_cache_dir

PROGRAM = "overlock export"

Format = Literal["onnx", "torch"]

SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2"}

SIDE_MULTIPLE = 32
"""A segmenter's sides are multiples of this, pixels."""

MINIMUM_SIDE = 64
"""Shortest side of a segmenter's file, pixels, as of the scenes that it is compared on."""

DESCRIPTION = """\
Write a classifier or a segmenter to a file that other runtimes run, and compare it with the network
that is served.

  onnx    for ONNX Runtime, OpenVINO, TensorRT, Triton and others; needs the extra "export"
  torch   for torch.export.load, which needs PyTorch alone"""

ABOUT = {
    "onnx": """\
Write a classifier or a segmenter to an ONNX file: weights included, any number of images.""",
    "torch": """\
Write a classifier or a segmenter to a file of torch.export: any number of images.""",
}

EPILOG = """\
The input is "images": float32 (batch, channels, height, width), normalised. The output is "logits":
(batch, classes), or a segmenter's (batch, classes, height / 4, width / 4). How images are prepared,
the labels and the weights' digest are in the file's metadata. The file is run on one, two and three
images before it gets its name; if a logit differs by more than 1e-4 (above 64: by 16 steps of
float32), there is no file.

examples:
  overlock export {format} overlock_t --weights pretrained -o overlock_t{suffix}
  overlock export {format} upernet_overlock_t --weights pretrained --size 512x704 \\
      -o upernet_overlock_t{suffix}
  overlock export {format} birds --models-file models.toml -o birds{suffix}"""


def fill_parser(parser: argparse.ArgumentParser) -> None:
    """Give the parser of ``overlock export`` its description, formats and options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = DESCRIPTION
    parser.epilog = "overlock export FORMAT --help says more."
    parser.usage = "overlock export onnx|torch NAME --weights WEIGHTS -o FILE [options]"
    formats = parser.add_subparsers(
        prog=PROGRAM, dest="format", required=True, metavar="FORMAT", help=argparse.SUPPRESS
    )
    for name in get_args(Format):
        _add_format(formats, name)


def _add_format(formats: argparse._SubParsersAction[argparse.ArgumentParser], name: Format) -> None:
    parser = formats.add_parser(
        name,
        usage=f"overlock export {name} NAME --weights WEIGHTS -o FILE [options]",
        description=ABOUT[name],
        epilog=EPILOG.format(format=name, suffix=SUFFIXES[name]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = dict.fromkeys((*CLASSIFIERS, *SEGMENTERS))
    model = parser.add_argument_group("model")
    model.add_argument(
        "name", metavar="NAME", help=f"{', '.join(names)}; or a name in the models file"
    )
    model.add_argument("--weights", help=weights_help(names))
    model.add_argument(
        "--models-file",
        type=Path,
        metavar="FILE",
        help=f"{setting_help('models_file')}; NAME is one of them [none]",
    )
    model.add_argument(
        "--task",
        choices=(Task.CLASSIFY, Task.SEGMENT),
        metavar="TASK",
        help="classify or segment: which demo is meant [classify]",
    )
    model.add_argument("--labels", type=Path, metavar="FILE", help=setting_help("classify_labels"))
    add_cache_dir(model)
    add_input_options(parser.add_argument_group("weights and input"))
    file = parser.add_argument_group("file")
    file.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help=f"write this file, replacing an existing one; its name ends with {SUFFIXES[name]}",
    )
    file.add_argument(
        "--size",
        type=_size,
        action="append",
        metavar="HxW",
        help="height and width of a segmenter's input, pixels, multiples of "
        f"{SIDE_MULTIPLE} from {MINIMUM_SIDE} to {MAXIMUM_INPUT_SIZE}; several of them write a "
        f"file each, NAME-HxW{SUFFIXES[name]}",
    )
    file.add_argument(
        "--image",
        type=Path,
        metavar="FILE",
        help="compare on this photograph too [on drawn scenes alone]",
    )


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not height x width, such as 512x704")
    height, width = map(int, match.groups())
    for side in (height, width):
        if side % SIDE_MULTIPLE or not MINIMUM_SIDE <= side <= MAXIMUM_INPUT_SIZE:
            raise argparse.ArgumentTypeError(
                f"{text}: {side} is not a multiple of {SIDE_MULTIPLE} from {MINIMUM_SIDE} to "
                f"{MAXIMUM_INPUT_SIZE}"
            )
    return height, width

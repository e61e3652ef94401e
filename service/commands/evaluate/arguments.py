"""The options of ``overlock evaluate``. Torch-free, so that help is fast."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path

from model.config import CLASSIFIERS, DETECTORS, SEGMENTERS, Task
from service.commands.console.input_options import add_input_options, add_models_file
from service.commands.console.option_words import DEVICE_HELP, weights_help
from service.commands.download.arguments import add_cache_dir

PROGRAM = "overlock evaluate"

DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")

DESCRIPTION = """\
Measure a network on a data set, as the paper measured it.

  classify   top-1 and top-5 accuracy on ImageNet-1K, or folders of your own
  segment    mIoU, pixel accuracy and mean accuracy on ADE20K, or in its layout
  detect     box AP and mask AP on COCO, or in its format
  merge      merge the results of several parts of a data set"""

EPILOG = """\
example:
  overlock evaluate {task} --model {example}

A long evaluation can be done in parts, on one machine or on several. Ctrl-C ends a part early: what
was measured until then is reported and written, and the exit code is 130.
  overlock evaluate {task} ... --limit 1000 --output first.json
  overlock evaluate {task} ... --offset 1000 --output rest.json
  overlock evaluate merge first.json rest.json --output all.json"""

CLASSIFY = """\
Measure a classifier: top-1 accuracy and, from five classes on, top-5 accuracy.

DIR has a folder for each class: DIR/n01440764/ILSVRC2012_val_00000293.JPEG. Folders named by
WordNet ids or by the model's labels are found by name, and some of the classes are enough; other
names are taken in alphabetical order, which needs one for each class. The order of the images
is a fixed shuffle, so that --limit 1000 is a fair sample. EXIF orientation is applied, but not to
folders named by WordNet ids: the reference ignores it on ImageNet."""

SEGMENT = """\
Measure a segmenter: mIoU, pixel accuracy and mean accuracy, as mmsegmentation 0.30 counts them.

DIR has images/validation/NAME.jpg and annotations/validation/NAME.png, or the files directly in
images and annotations. The pixels of an annotation are class ids; 255 is ignored."""

DETECT = """\
Measure a detector: box AP and mask AP, as pycocotools counts them.

DIR has annotations/instances_val2017.json and val2017/. Categories are found by the model's labels;
other names are taken in the order of their ids, which needs one for each class. With --output FILE,
the detections are written to FILE.detections.json, in COCO's format for results."""

MERGE = """\
Merge the files that --output wrote for different parts of one data set, and report the total. The
detections and COCO's annotations have to be where they were."""


def fill_parser(parser: argparse.ArgumentParser) -> None:
    """Give the parser of ``overlock evaluate`` its description, commands and options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = DESCRIPTION
    parser.epilog = "overlock evaluate TASK --help says more."
    parser.usage = "overlock evaluate classify|segment|detect|merge ..."
    tasks = parser.add_subparsers(
        prog="overlock evaluate", dest="task", required=True, help=argparse.SUPPRESS
    )
    _add_task(
        tasks,
        Task.CLASSIFY,
        CLASSIFY,
        models=CLASSIFIERS,
        example="overlock_t \\\n    --weights overlock_t_in1k_224.pth --data imagenet/val",
        data="a folder with a folder for each class, or demo: the 2000 drawn scenes",
    )
    segment = _add_task(
        tasks,
        Task.SEGMENT,
        SEGMENT,
        models=SEGMENTERS,
        example="upernet_overlock_t \\\n"
        "    --weights upernet_overlock_tiny_ade20k.pth --data ADEChallengeData2016",
        data="a folder in ADE20K's layout, or demo: the 2000 drawn scenes",
    )
    segment.add_argument(
        "--keep-zero-label",
        action="store_true",
        help="0 in an annotation is a class; without this, 0 is ignored and class ids start "
        "at 1, as in ADE20K [off]",
    )
    detect = _add_task(
        tasks,
        Task.DETECT,
        DETECT,
        models=DETECTORS,
        example="mask_rcnn_overlock_t \\\n"
        "    --weights maskrcnn3x_overlock_tiny_coco.pth --data coco",
        data="a folder in COCO's layout; not needed with --annotations and --images",
    )
    detect.add_argument(
        "--annotations",
        type=Path,
        metavar="FILE",
        help="the annotations [DIR/annotations/instances_val2017.json]",
    )
    detect.add_argument("--images", type=Path, metavar="DIR", help="the images [DIR/val2017]")
    detect.add_argument(
        "--max-detections",
        type=_positive,
        default=100,
        metavar="N",
        help="most detections of an image that count, the best ones [100]",
    )
    _add_merge(tasks)


def _add_task(
    tasks: argparse._SubParsersAction[argparse.ArgumentParser],
    task: Task,
    description: str,
    *,
    models: Mapping[str, object],
    example: str,
    data: str,
) -> argparse._ArgumentGroup:
    """Add a task with the options of all tasks; return its group 'input'."""
    parser = tasks.add_parser(
        task,
        usage=f"overlock evaluate {task} --model NAME --weights WEIGHTS --data DIR [options]",
        description=description,
        epilog=EPILOG.format(task=task, example=example),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    inputs = parser.add_argument_group("input")
    inputs.add_argument("--model", metavar="NAME", help=", ".join(models))
    inputs.add_argument("--weights", help=weights_help(models))
    add_models_file(inputs)
    inputs.add_argument("--data", required=task is not Task.DETECT, metavar="DIR", help=data)
    inputs.add_argument(
        "--offset", type=_count, default=0, metavar="N", help="leave out the first N images [0]"
    )
    inputs.add_argument(
        "--limit", type=_positive, metavar="N", help="measure at most N images [all]"
    )
    add_input_options(
        parser.add_argument_group("weights and input, as timm's validate.py has them")
    )
    execution = parser.add_argument_group("execution")
    if task is Task.CLASSIFY:
        execution.add_argument(
            "--batch-size",
            type=_positive,
            default=32,
            metavar="N",
            help="images in a forward pass [32]",
        )
    execution.add_argument(
        "--device",
        type=_device,
        default="auto",
        help=DEVICE_HELP,
    )
    execution.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="float32 or bfloat16, of weights and images [float32]",
        metavar="TYPE",
    )
    add_cache_dir(execution)
    _add_output(parser)
    return inputs


def _add_merge(tasks: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = tasks.add_parser(
        "merge",
        usage="overlock evaluate merge FILE FILE ... [--output FILE]",
        description=MERGE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("reports", nargs="+", type=Path, metavar="FILE", help="written by --output")
    _add_output(parser)


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument_group("result").add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="write the result with all counts as JSON, replacing an existing file [only print it]",
    )


def _count(text: str) -> int:
    return _whole_number(text, minimum=0)


def _positive(text: str) -> int:
    return _whole_number(text, minimum=1)


def _whole_number(text: str, minimum: int) -> int:
    if not text.isdecimal() or int(text) < minimum:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {minimum} on")
    return int(text)


def _device(text: str) -> str:
    if not DEVICE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not auto, cpu or cuda:N")
    return text

"""The options of ``overlock predict``."""

from __future__ import annotations

import argparse
from pathlib import Path

from model.config import TRAINED_TASKS_FOR, Task
from service.api.queries import DEFAULT_OVERLAP, MAX_OVERLAP, MAX_TILE, MIN_TILE
from service.commands.console import input_options
from service.commands.console.option_words import DEVICE_HELP, URL_HELP, setting_help, weights_help
from service.commands.console.remote_options import add_options
from service.settings import MODELS
from service.settings.model_spec import DEMO_SEGMENTER

TILED_TASKS = (Task.SEGMENT, Task.DETECT)
"""Tasks that take large images in tiles."""

DEFAULT_BATCH_SIZE = 8
DEFAULT_CONCURRENCY = 4

DESCRIPTION = """\
Predict on images, in this process or, with --url, by a running service.

  classify   name what an image shows
  segment    name what every pixel shows
  detect     find objects, with boxes and masks
  embed      turn images into vectors, for search or comparison
  explain    map where on an image a class comes from"""

TASK_DESCRIPTIONS = {
    Task.CLASSIFY: "Name what images show: the most likely classes, best first.",
    Task.SEGMENT: "Name the classes of the pixels, and the share of each: the largest first.",
    Task.DETECT: "Find objects on images: classes, scores and boxes, best first.",
    Task.EMBED: "Turn images into vectors for search or comparison: means of a network's maps.",
    Task.EXPLAIN: """\
Map where on images classes come from, exactly: the mean of a class's map is its logit. The peak is
where the close look's map is highest, in pixels of the image.""",
}

_OVERLAY = """\
save each image with what was found drawn over it, as DIR/NAME.overlay.png; with --url that takes
two requests"""

SAVE_HELP = {
    Task.SEGMENT: _OVERLAY,
    Task.DETECT: _OVERLAY,
    Task.EMBED: "save each embedding as DIR/NAME.npy, float32 (dimension,)",
    Task.EXPLAIN: """\
save the first class's map over the image as DIR/NAME.explained.png, and the maps of all classes as
DIR/NAME.npy, float32 (classes, looks, rows, columns): the looks are focus and, if there is one,
overview; with --url that takes two requests""",
}
"""What ``--save`` writes, by task; a classification has nothing to save."""

TOP_K_HELP = "how many classes, the most likely ones"

FILES_HELP = """\
files, folders (searched recursively), patterns like 'photos/**/*.jpg', or - for the standard
input"""

EPILOG = """\
The same image gives the same result in this process and at a service with the same settings: both
run the same code. The variables of overlock serve (OVERLOCK_CLASSIFY_MODEL,
OVERLOCK_MAX_IMAGE_PIXELS, ...) apply in this process too; an option wins.

examples:
  overlock predict {task} photo.jpg{model}
  overlock predict {task} photos --url http://127.0.0.1:8000 --json > found.jsonl
"""

LOCAL_OPTIONS = (
    *("weights", "labels", "models_file"),
    *input_options.NAMES,
    *("device", "dtype", "batch_size"),
)
"""Options of a network in this process."""

REMOTE_OPTIONS = ("concurrency", "timeout", "api_key_file")
"""Options of calling a service."""


def fill_parser(parser: argparse.ArgumentParser) -> None:
    """Give the parser of ``overlock predict`` its description, tasks and options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = DESCRIPTION
    parser.epilog = "overlock predict TASK --help says more."
    parser.usage = f"overlock predict {'|'.join(Task)} FILE ... [options]"
    tasks = parser.add_subparsers(
        prog="overlock predict", dest="task", required=True, metavar="TASK", help=argparse.SUPPRESS
    )
    for task in Task:
        _add_task(tasks, task)


def networks_for(task: Task) -> dict[str, tuple[Task, str]]:
    """Return what ``--model`` takes: by name, the task that it is trained for and its architecture.

    The names are those of the service's models: of the demo's two networks, the segmenter has a
    name of its own where both can do the task.
    """
    networks: dict[str, tuple[Task, str]] = {}
    for trained in TRAINED_TASKS_FOR[task]:
        for name in MODELS[trained]:
            networks[DEMO_SEGMENTER if name in networks else name] = trained, name
    return networks


def _add_task(tasks: argparse._SubParsersAction[argparse.ArgumentParser], task: Task) -> None:
    model = " --model mask_rcnn_overlock_t --weights FILE" if task is Task.DETECT else ""
    parser = tasks.add_parser(
        task.value,
        usage=f"overlock predict {task} FILE ... [options]",
        description=TASK_DESCRIPTIONS[task],
        epilog=EPILOG.format(task=task, model=model),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument_group("input").add_argument(
        "files", nargs="+", metavar="FILE", help=FILES_HELP
    )
    prediction = parser.add_argument_group("prediction")
    QUERY_OPTIONS[task](prediction)
    if task in TILED_TASKS:
        add_tiles(prediction)
    out = parser.add_argument_group("output")
    out.add_argument(
        "--json",
        action="store_true",
        help="a line of JSON for each image, in the form that the service answers in, with its "
        "file or its error [a table]",
    )
    if task in SAVE_HELP:
        out.add_argument("--save", type=Path, metavar="DIR", help=SAVE_HELP[task])
    parser.set_defaults(save=None, labels=None)  # of tasks without these options
    _add_local(parser.add_argument_group("in this process"), task)
    _add_remote(parser.add_argument_group("by a service"))


def _add_classify(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--top-k", type=int, metavar="N", help=f"{TOP_K_HELP} [5]")


def _add_segment(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--mask",
        choices=("none", "png", "rle"),
        default="none",
        help="how --json holds the label map: not at all, as a PNG in base64 whose pixels are "
        "class ids, or as COCO's run lengths [none]",
    )


def add_tiles(group: argparse._ArgumentGroup) -> None:
    """Add the options of tiles."""
    group.add_argument(
        "--tile",
        type=int,
        metavar="N",
        help=f"side of square tiles, {MIN_TILE} to {MAX_TILE} pixels of the image: a network sees "
        "each as an image of its own, and the whole image once more [the whole image alone]",
    )
    group.add_argument(
        "--overlap",
        type=float,
        metavar="F",
        help="part of a tile's side that its neighbour sees too, up to "
        f"{MAX_OVERLAP} [{DEFAULT_OVERLAP}]",
    )


def _add_detect(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--score-threshold", type=float, metavar="S", help="least score [0.05]")
    group.add_argument("--max-detections", type=int, metavar="N", help="most detections [100]")
    group.add_argument("--no-masks", action="store_true", help="boxes alone [with masks]")


def _add_embed(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--layer",
        metavar="NAME",
        help="head (of a classifier), backbone, stage1, stage2, stage3, overview, focus3 or focus4 "
        "[head of a classifier, else backbone]",
    )
    group.add_argument(
        "--normalize", action="store_true", help="scale the vectors to a length of 1 [as they are]"
    )


def _add_explain(group: argparse._ArgumentGroup) -> None:
    classes = group.add_mutually_exclusive_group()
    classes.add_argument("--top-k", type=int, metavar="N", help=f"{TOP_K_HELP} [1]")
    classes.add_argument(
        "--class-id",
        type=int,
        action="append",
        metavar="ID",
        help="a class to map instead; may be given several times",
    )
    group.add_argument(
        "--view",
        choices=("focus", "overview", "both"),
        help="what --save draws: the close look's map, the overview's before it, or both side by "
        "side [focus]",
    )


QUERY_OPTIONS = {
    Task.CLASSIFY: _add_classify,
    Task.SEGMENT: _add_segment,
    Task.DETECT: _add_detect,
    Task.EMBED: _add_embed,
    Task.EXPLAIN: _add_explain,
}
"""Adds the options of a task's query to a group."""


def _add_local(group: argparse._ArgumentGroup, task: Task) -> None:
    add_model_options(
        group,
        task,
        model_help="with --models-file a name in it, with --url one of the service's models",
    )
    group.add_argument("--device", help=DEVICE_HELP)
    add_batch_options(group, str(DEFAULT_BATCH_SIZE))


def add_model_options(group: argparse._ArgumentGroup, task: Task, *, model_help: str) -> None:
    """Add the options that name a network and say what is done to its images."""
    networks = networks_for(task)
    group.add_argument("--model", metavar="NAME", help=f"{', '.join(networks)}; {model_help}")
    group.add_argument("--weights", help=weights_help(networks))
    if task is not Task.EMBED:  # an embedding has no classes
        group.add_argument("--labels", metavar="FILE", help=setting_help("classify_labels"))
    input_options.add_models_file(group)
    input_options.add_input_options(group)


def add_batch_options(group: argparse._ArgumentGroup, default_batch_size: str) -> None:
    """Add the options of precision and batches."""
    dtype = f"auto, float32 or bfloat16; {setting_help('dtype')} [auto]"
    group.add_argument("--dtype", metavar="TYPE", help=dtype)
    group.add_argument(
        "--batch-size",
        type=int,
        metavar="N",
        help=f"most images of one shape in a forward pass [{default_batch_size}]",
    )


def _add_remote(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--url", help=f"{URL_HELP}; it has its own models")
    group.add_argument(
        "--concurrency",
        type=int,
        metavar="N",
        help=f"requests in flight [{DEFAULT_CONCURRENCY}]",
    )
    add_options(group, timeout_help="for an image, with all retries [60]")

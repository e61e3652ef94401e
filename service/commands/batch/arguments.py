"""The options of ``overlock batch``."""

from __future__ import annotations

import argparse

from model.config import Task
from service.commands.batch.file_names import DATASET_FILES
from service.commands.predict.arguments import (
    QUERY_OPTIONS,
    TASK_DESCRIPTIONS,
    TILED_TASKS,
    add_batch_options,
    add_model_options,
    add_tiles,
)

PROGRAM = "overlock batch"

TASKS = (Task.CLASSIFY, Task.SEGMENT, Task.DETECT, Task.EMBED)

DEFAULT_PART_SIZE = 10_000

CPU_BATCH_SIZE, GPU_BATCH_SIZE = 8, 32
"""Images of one shape in a forward pass, if no number is given."""

DESCRIPTION = """\
Predict on many images: Parquet files, a row an image, on Ray Data. A run that ended in the middle,
in whatever way, goes on where it was when the same command is given again.

  classify   name what an image shows
  segment    name what every pixel shows
  detect     find objects, with boxes and masks
  embed      turn images into vectors, for search or comparison"""

EPILOG = """\
DIR gets part-00000.parquet and so on, and manifest.json when all is done. The columns are path,
error (null, or why there is no result) and the task's own. The variables of overlock serve apply.

examples:
  overlock batch {task} photos --output found
  overlock batch {task} 's3://bucket/shards/*.tar' --output s3://bucket/found --shard 0/8
"""

TILED_EXAMPLE = """\
  overlock batch {task} aerial --output found --tile 1024
"""

SOURCE_HELP = """\
files, folders (searched recursively), patterns like 'photos/**/*.jpg', each of them on this machine
or s3:// or gs://; WebDataset tars; Parquet files with a column path or bytes; - for a list of all
these on the standard input, one a line"""


FORMAT_TASKS = (Task.SEGMENT, Task.DETECT)
"""Tasks whose results can be a data set."""

FORMAT_HELP = """\
make a data set of the results too: coco.json, a folder yolo, or label-studio.json with its .xml;
for a finished run nothing is computed again [Parquet files alone]"""


def fill_parser(parser: argparse.ArgumentParser) -> None:
    """Give the parser of ``overlock batch`` its description, tasks and options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = DESCRIPTION
    parser.epilog = "overlock batch TASK --help says more."
    parser.usage = f"overlock batch {'|'.join(TASKS)} SOURCE ... --output DIR [options]"
    tasks = parser.add_subparsers(
        prog=PROGRAM, dest="task", required=True, metavar="TASK", help=argparse.SUPPRESS
    )
    for task in TASKS:
        _add_task(tasks, task)


def _add_task(tasks: argparse._SubParsersAction[argparse.ArgumentParser], task: Task) -> None:
    parser = tasks.add_parser(
        task.value,  # as argparse shows it if another one is given
        usage=f"overlock batch {task} SOURCE ... --output DIR [options]",
        description=TASK_DESCRIPTIONS[task],
        epilog=(EPILOG + TILED_EXAMPLE * (task in TILED_TASKS)).format(task=task),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument_group("input").add_argument(
        "sources", nargs="+", metavar="SOURCE", help=SOURCE_HELP
    )
    prediction = parser.add_argument_group("prediction")
    if task is not Task.SEGMENT:  # its label map is always a column
        QUERY_OPTIONS[task](prediction)
    if task in TILED_TASKS:
        add_tiles(prediction)
    _add_output(parser.add_argument_group("output"), task)
    network = parser.add_argument_group("network")
    add_model_options(network, task, model_help="with --models-file a name in it")
    network.add_argument(
        "--devices",
        dest="device",
        metavar="LIST",
        help="auto (every GPU that torch can use, else the CPU), cuda (every one, and at least "
        "one), cpu, or a list like cuda:0,cuda:1; one network for each [auto]",
    )
    add_batch_options(network, f"{CPU_BATCH_SIZE}; {GPU_BATCH_SIZE} on a GPU")
    _add_ray(parser.add_argument_group("Ray"))
    # What the same code takes of overlock predict.
    parser.set_defaults(labels=None, save=None, url=None, json=True, mask="png")


def _add_output(group: argparse._ArgumentGroup, task: Task) -> None:
    group.add_argument(
        "--output",
        required=True,
        metavar="DIR",
        help="a folder, or s3:// or gs://: empty, or that of an unfinished run",
    )
    group.add_argument(
        "--format",
        choices=tuple(DATASET_FILES),
        # Of the others a sentence says why there is none.
        help=FORMAT_HELP if task in FORMAT_TASKS else argparse.SUPPRESS,
    )
    group.add_argument(
        "--part-size",
        type=int,
        default=DEFAULT_PART_SIZE,
        metavar="N",
        help=f"images of an output file, and of what is done again at most [{DEFAULT_PART_SIZE}]",
    )
    group.add_argument(
        "--max-failed",
        default="0",
        metavar="N|P%",
        help="failed images, or a percentage of a run's or share's own, up to which it ends with "
        "exit code 0 once all is done [0]",
    )
    group.add_argument(
        "--shard",
        metavar="I/N",
        help="do the share I, from 0, of N; all of them get the same DIR [everything]",
    )


def _add_ray(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="of the cluster that this machine belongs to, auto or HOST:6379; all of its machines "
        "have this program [a Ray of its own, on this machine]",
    )
    group.add_argument(
        "--decoders",
        type=int,
        metavar="N",
        help="processes that read and decode [what the networks leave of the CPUs]",
    )

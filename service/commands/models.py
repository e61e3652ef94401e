"""``overlock models``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from model.config import CLASSIFIERS, DETECTORS, GMACS, PARAMETERS, SEGMENTERS, Task
from model.pretrained.records import find_cached, weights_folder, weights_path
from service.commands.console.exits import DONE
from service.commands.console.table import Table
from service.settings import load_settings

DESCRIPTION = """\
List the networks: their parameters, multiply-adds for an image of 224 by 224, the paper's numbers
(ImageNet-1K top-1 accuracy, ADE20K mIoU, COCO box and mask AP by length of training) and where
their weights are cached."""

NOTHING = "-"


@dataclass(frozen=True)
class ListedModel:
    """A network, as it is listed.

    Attributes:
        name: as --model takes it.
        task: its task.
        parameters: how many it has.
        gmacs: billions of multiply-adds for an image of 224 by 224; None if the paper has none.
        paper: the paper's numbers, percent, by metric; empty if it has none.
        cached: the file with its weights, if there is one.
    """

    name: str
    task: Task
    parameters: int
    gmacs: float | None
    paper: dict[str, float]
    cached: str | None


def fill_parser(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--json", action="store_true", help="a line of JSON for each network [a table]"
    )


def run(arguments: argparse.Namespace) -> int:
    """List the networks."""
    models = list(listed_models(load_settings().cache_folder))
    if arguments.json:
        sys.stdout.writelines(json.dumps(asdict(model)) + "\n" for model in models)
        return DONE
    rows = [_cells(model) for model in models]
    table = Table(
        [
            ("name", max(len(row[0]) for row in rows)),
            ("task", 8),
            ("parameters", -10),
            ("GMACs", -5),
            ("the paper's numbers", max(len(row[4]) for row in rows)),
            ("cached", 0),
        ]
    )
    for row in rows:
        table.write(row)
    return DONE


def listed_models(cache_folder: Path) -> Iterator[ListedModel]:
    """Describe every network, by task.

    Args:
        cache_folder: the cache folder of the settings.
    """
    folder = weights_folder(cache_folder)
    for task, sizes in PARAMETERS.items():
        for name, parameters in sizes.items():
            kept = find_cached(name, folder)
            yield ListedModel(
                name=name,
                task=task,
                parameters=parameters,
                gmacs=GMACS.get(name),
                paper=_paper(task, name),
                cached=str(weights_path(name, folder)) if kept else None,
            )


def _paper(task: Task, name: str) -> dict[str, float]:
    found: dict[str, float | None] = {}
    match task:
        case Task.CLASSIFY:
            found["top1"] = CLASSIFIERS[name].published_top1
        case Task.SEGMENT:
            found["miou"] = SEGMENTERS[name].published_miou
        case Task.DETECT:
            for published in DETECTORS[name].published:
                found[f"box_ap_{published.schedule}"] = published.box_ap
                found[f"mask_ap_{published.schedule}"] = published.mask_ap
    return {metric: value for metric, value in found.items() if value is not None}


def _cells(model: ListedModel) -> list[str]:
    return [
        model.name,
        model.task,
        f"{model.parameters / 1e6:.1f} M",
        NOTHING if model.gmacs is None else f"{model.gmacs:.1f}",
        _in_words(model) or NOTHING,
        "bundled" if model.name == "demo" else model.cached or NOTHING,
    ]


def _in_words(model: ListedModel) -> str:
    match model.task:
        case Task.CLASSIFY:
            return "".join(f"top-1 {value}" for value in model.paper.values())
        case Task.SEGMENT:
            return "".join(f"mIoU {value}" for value in model.paper.values())
        case _:
            return ", ".join(
                f"AP {published.box_ap}"
                + (f"/{published.mask_ap}" if published.mask_ap is not None else "")
                + f" ({published.schedule})"
                for published in DETECTORS[model.name].published
            )

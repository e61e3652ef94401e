"""The data set that ``--format`` asks for, made of a run's parts, which are all written.

Memory does not grow with the number of images: a part's row group is read at a time, and an image's
objects are written before the next one's are made. Only YOLO's paths are compared at the start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from model.config import Task
from service.commands.batch.arguments import FORMAT_TASKS
from service.commands.batch.datasets.coco import write_coco
from service.commands.batch.datasets.images import FoundImages
from service.commands.batch.datasets.label_paths import LabelPaths
from service.commands.batch.datasets.label_studio import control_of, interface, write_tasks
from service.commands.batch.datasets.yolo import write_yolo
from service.commands.batch.file_names import (
    COCO,
    DATASET_FILES,
    YOLO,
    dataset_names,
    files_of_dataset,
)
from service.commands.batch.folder import OutputFolder
from service.commands.batch.plan import Part, Shard
from service.commands.console.exits import RefusedError


@dataclass(frozen=True)
class Dataset:
    """A data set of a shard.

    Attributes:
        dataset_format: a key of ``DATASET_FILES``.
        shard: whose images it has.
        label_paths: of YOLO's files; None for other formats.
    """

    dataset_format: str
    shard: Shard
    label_paths: LabelPaths | None = None

    @property
    def name(self) -> str:
        """Its file, the last one where there are two, or its folder."""
        return dataset_names(self.dataset_format, self.shard)[-1]

    def is_in(self, folder: OutputFolder) -> bool:
        """Tell whether it is there, whole."""
        return all(map(folder.has, files_of_dataset(self.dataset_format, self.shard)))

    def write(
        self,
        folder: OutputFolder,
        parts: Sequence[Part],
        identity: dict[str, Any],
        advance: Callable[[int], None],
    ) -> None:
        """Write its files, each of which appears whole.

        Args:
            folder: that has the parts.
            parts: all of the shard's.
            identity: of the run, with the model.
            advance: is told how many images are done.
        """
        model = identity["model"]
        images = FoundImages(folder, parts, identity["task"], advance)
        names = dataset_names(self.dataset_format, self.shard)
        if self.dataset_format == YOLO:
            assert self.label_paths is not None
            folder.remove(names[0])  # without its last file it is not whole
            with folder.writing_folder(names[0]) as tree:
                write_yolo(tree, images, self.label_paths, model)
        elif self.dataset_format == COCO:
            with folder.writing(names[0]) as path, path.open("wb") as file:
                write_coco(file, images, model)
        else:
            control = control_of(identity["task"], identity["options"])
            folder.write(names[0], interface(control, model["labels"]))
            with folder.writing(names[1]) as path, path.open("wb") as file:
                write_tasks(file, images, model, control)


def check_format(dataset_format: str | None, task: Task) -> None:
    """Refuse a data set of results without boxes and masks.

    Raises:
        RefusedError: if the task has no others.
    """
    if dataset_format is not None and task not in FORMAT_TASKS:
        raise RefusedError(
            f"--format {dataset_format}: a data set has boxes or masks, and {task} makes none; "
            f"--format is for {' and '.join(FORMAT_TASKS)}."
        )


def dataset_of(
    dataset_format: str | None, shard: Shard, paths: Callable[[], Iterable[str]]
) -> Dataset | None:
    """Return the data set that a run is asked for, before anything is computed.

    Args:
        dataset_format: what ``--format`` says; None for none.
        shard: of the run.
        paths: returns those of all images of all shards.

    Raises:
        RefusedError: if YOLO's format cannot tell two of the images apart.
    """
    if dataset_format is None:
        return None
    label_paths = LabelPaths(paths()) if dataset_format == YOLO else None
    return Dataset(dataset_format, shard, label_paths)


def remove_datasets(folder: OutputFolder, names: Sequence[str], shard: Shard) -> None:
    """Remove a shard's data sets: their parts are computed again.

    Args:
        folder: that has them.
        names: of its files.
        shard: whose they are.
    """
    for each in DATASET_FILES:
        for name in dataset_names(each, shard):
            if name in names:
                folder.remove(name)

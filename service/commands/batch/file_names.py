"""The names of an output folder's files: parts, manifests, data sets, and what is unfinished."""

from __future__ import annotations

import re
from collections.abc import Iterable

from service.commands.batch.plan import Shard
from service.commands.console.exits import RefusedError

COCO, YOLO, LABEL_STUDIO = "coco", "yolo", "label-studio"
"""What ``--format`` takes."""

DATASET_FILES = {COCO: ("{}.json",), YOLO: ("{}",), LABEL_STUDIO: ("{}.xml", "{}.json")}
"""The files of a data set in the order in which they appear; YOLO's are a folder."""

IMAGE_LIST, DATA_FILE = "images.txt", "data.yaml"
"""In YOLO's folder, beside a file of labels for each image."""

_KINDS = "part|manifest|plan|lock|coco|yolo|label-studio"

_SHARED = re.compile(r"part-\d{5}-\d{5,}\.parquet|manifest-\d{5}\.json")
_ALONE = re.compile(r"part-\d{5,}\.parquet|manifest\.json")
_SHARED_DATASET = re.compile(r"coco-\d{5}\.json|yolo-\d{5}|label-studio-\d{5}\.(json|xml)")
_ALONE_DATASET = re.compile(r"coco\.json|yolo|label-studio\.(json|xml)")
"""Of runs with and without ``--shard``; the names of the former have one number more."""

_OF_SYSTEMS = ("Thumbs.db", "desktop.ini", "lost+found")
"""What systems put into folders themselves, beside hidden files."""

_STEM = re.compile(rf"\.?(?:{_KINDS})(-\d{{5,}})?(-\d{{5,}})?")


def dataset_names(dataset_format: str, shard: Shard) -> tuple[str, ...]:
    """Return the files or the folder of a shard's data set."""
    stem = f"{dataset_format}{shard.infix}"
    return tuple(name.format(stem) for name in DATASET_FILES[dataset_format])


def files_of_dataset(dataset_format: str, shard: Shard) -> tuple[str, ...]:
    """Return the files that a shard's data set has at least, in the order in which they appear."""
    names = dataset_names(dataset_format, shard)
    if dataset_format != YOLO:
        return names
    return tuple(f"{names[0]}/{file}" for file in (IMAGE_LIST, DATA_FILE))


def is_result(name: str) -> bool:
    """Tell whether a name is that of a part or a manifest."""
    return any(pattern.fullmatch(name) for pattern in (_SHARED, _ALONE))


def is_of(name: str, shard: Shard) -> bool:
    """Tell whether a file is, finished or not, one of a shard's."""
    stem = _STEM.match(name)
    if stem is None:
        return False
    if shard.count is None:
        return True
    return stem[1] == shard.infix


def check_foreign(folder: str, names: Iterable[str], shard: Shard) -> None:
    """Refuse a folder with other files than those of the same kind of run.

    Args:
        folder: as the user named it.
        names: of its files.
        shard: of the run.

    Raises:
        RefusedError: if there are any.
    """
    names = list(names)
    with_shards = shard.count is not None
    wanted, other = (_SHARED, _ALONE) if with_shards else (_ALONE, _SHARED)
    dataset = _SHARED_DATASET if with_shards else _ALONE_DATASET
    # A folder with a data set and no parts holds somebody's own.
    has_parts = any(map(is_result, names))
    strange = []
    for name in names:
        if wanted.fullmatch(name) or name.startswith(".") or name in _OF_SYSTEMS:
            continue
        if other.fullmatch(name):
            raise RefusedError(
                f"{folder} has {name}, of a run with{'out' if with_shards else ''} --shard; give "
                "another folder."
            )
        if not (has_parts and dataset.fullmatch(name)):
            strange.append(name)
    if strange:
        others = len(strange) - 1
        more = f" and {others} other file{'s' * (others > 1)}" if others else ""
        raise RefusedError(
            f"{folder} has {strange[0]}{more} that no such run has written; give an empty folder, "
            "or that of an unfinished run."
        )

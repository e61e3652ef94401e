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

_KINDS = "part|manifest|plan|lock|coco|yolo|label-studio"

_SHARED = re.compile(r"part-\d{5}-\d{5,}\.parquet|manifest-\d{5}\.json")
_ALONE = re.compile(r"part-\d{5,}\.parquet|manifest\.json")
_SHARED_DATASET = re.compile(r"coco-\d{5}\.json|yolo-\d{5}|label-studio-\d{5}\.(json|xml)")
_ALONE_DATASET = re.compile(r"coco\.json|yolo|label-studio\.(json|xml)")
"""Of runs with and without ``--shard``; the names of the former have one number more."""

_UNFINISHED = re.compile(rf"\.({_KINDS})(-\d{{5,}}){{0,2}}(\.parquet|\.json|\.xml)?(\.\w+\.tmp)?")
_STEM = re.compile(rf"\.?(?:{_KINDS})(-\d{{5,}})?(-\d{{5,}})?")


def dataset_names(dataset_format: str, shard: Shard) -> tuple[str, ...]:
    """Return the files or the folder of a shard's data set."""
    stem = f"{dataset_format}{shard.infix}"
    return tuple(name.format(stem) for name in DATASET_FILES[dataset_format])


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
        if wanted.fullmatch(name) or _UNFINISHED.fullmatch(name):
            continue
        if other.fullmatch(name):
            raise RefusedError(
                f"{folder} has {name}, of a run with{'out' if with_shards else ''} --shard; give "
                "another folder."
            )
        if not (has_parts and dataset.fullmatch(name)):
            strange.append(name)
    if strange:
        others = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
        raise RefusedError(
            f"{folder} has {strange[0]}{others}, which is of no such run; give an empty "
            "folder, or that of an unfinished run."
        )

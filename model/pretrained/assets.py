"""The authors' published weights files and their URLs. Torch-free.

Of a classifier's two files this names the one with unmerged branches: it can be trained further,
and the loader merges them itself. Of a detector's two files it names the longer training.

Source: the release page of LMMMEng/OverLoCK; no digests are published there.
"""

from __future__ import annotations

from dataclasses import dataclass

from model.config import CLASSIFIERS, DETECTORS, SEGMENTERS

PRETRAINED = "pretrained"
"""Value of a weights option that means the authors' published file."""

RELEASE_URL = "https://github.com/LMMMEng/OverLoCK/releases/download/v1"
RELEASE_PAGE = "https://github.com/LMMMEng/OverLoCK/releases/tag/v1"

_SIZES = {"t": "tiny", "s": "small", "b": "base"}

ASSETS: dict[str, str] = (
    {f"overlock_{size}": f"overlock_{size}_in1k_224.pth" for size in ("xt", "t", "s", "b")}
    | {f"upernet_overlock_{s}": f"upernet_overlock_{size}_ade20k.pth" for s, size in _SIZES.items()}
    | {
        f"mask_rcnn_overlock_{s}": f"maskrcnn3x_overlock_{size}_coco.pth"
        for s, size in _SIZES.items()
    }
)
"""The published file of each model that has one."""


class PretrainedError(ValueError):
    """Published weights cannot be obtained; the message says why, and what to do."""


@dataclass(frozen=True)
class Asset:
    """One published file.

    Attributes:
        model: the model's name.
        file: the file's name.
        url: its address.
    """

    model: str
    file: str
    url: str


def asset_of(name: str) -> Asset:
    """Return the published file of a model.

    Raises:
        PretrainedError: if the authors published none, or there is no such model.
    """
    if name in ASSETS:
        return Asset(name, ASSETS[name], f"{RELEASE_URL}/{ASSETS[name]}")
    available = f"There are pretrained weights for {', '.join(ASSETS)}."
    if name == "demo":
        raise PretrainedError(f"The demo model brings its own weights, demo. {available}")
    if name in {*CLASSIFIERS, *SEGMENTERS, *DETECTORS}:
        raise PretrainedError(f"The authors published no weights of {name}. {available}")
    raise PretrainedError(f"There is no model {name!r}. {available}")

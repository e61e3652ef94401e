"""Official segmenters and detectors, from their files and a photograph to the service's answer.

The weights are the reference's hashed ones, in the authors' format; the answers are those of
mmsegmentation's and mmdetection's complete test pipelines.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from support.checkpoints import official_state
from support.running_service import CLIENT, RunningService

GOLDEN = Path(__file__).parents[1] / "golden"
LABELS = dict(np.load(GOLDEN / "e2e_seg.npz"))
DETECTIONS = dict(np.load(GOLDEN / "e2e_det.npz"))
KINDS = ("mask_rcnn", "cascade_mask_rcnn")
PHOTO = "n01558993_robin.JPEG"


@pytest.fixture(scope="module", params=KINDS)
def service(
    request: pytest.FixtureRequest, photos_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningService]:
    """A segmenter and a detector; not started where there are no photographs to send."""
    folder = tmp_path_factory.mktemp("checkpoints")
    settings: dict[str, str] = {"classify_model": "off"}
    for task, name in (
        ("segment", "upernet_overlock_xt"),
        ("detect", f"{request.param}_overlock_xt"),
    ):
        path = folder / f"{name}.pth"
        torch.save({"meta": {}, "state_dict": official_state(name)}, path)
        settings |= {f"{task}_model": name, f"{task}_weights": str(path)}
    with RunningService(default_timeout_seconds=100, **settings) as running:
        yield running
    for path in folder.iterdir():
        path.unlink()


def ask(service: RunningService, path: str, photo: Path, accept: str) -> httpx.Response:
    answer = CLIENT.post(
        f"{service.url}{path}",
        content=photo.read_bytes(),
        headers={"Content-Type": "image/jpeg", "Accept": accept},
        timeout=100,
    )
    assert answer.status_code == 200, answer.text
    return answer


@pytest.mark.timeout(400)  # two networks, and 800x1088 pixels
def test_a_photograph_gets_the_labels_and_detections_of_the_authors_networks(
    service: RunningService, photos_dir: Path
) -> None:
    segmented = ask(service, "/v1/segment", photos_dir / PHOTO, "image/png")
    with Image.open(io.BytesIO(segmented.content)) as image:
        agreement = (np.asarray(image) == LABELS[f"xt|{PHOTO}"]).mean()
    assert agreement >= 0.995

    found = ask(service, "/v1/detect", photos_dir / PHOTO, "application/json").json()
    models = CLIENT.get(f"{service.url}/v1/models").json()["models"]
    key = f"{models[1]['name'].removesuffix('_overlock_xt')}|xt|{PHOTO}"
    shape = tuple(DETECTIONS[f"{key}|shape"])
    masks = np.unpackbits(DETECTIONS[f"{key}|masks"])[: np.prod(shape)].reshape(shape)
    overlaps = mask_overlaps(found["detections"], DETECTIONS[f"{key}|dets"], masks)
    assert len(overlaps) >= 97
    assert np.mean(overlaps) > 0.97


def mask_overlaps(
    found: list[dict[str, Any]], want: NDArray[np.float32], masks: NDArray[np.uint8]
) -> list[float]:
    """Match (same class, box IoU above 0.9, score within 0.02); return the matches' mask IoU."""
    overlaps, free = [], list(range(len(found)))
    for row, mask in zip(want, masks, strict=True):
        for index in free:
            each = found[index]
            if (
                each["class_id"] == int(row[5])
                and abs(each["score"] - row[4]) < 0.02
                and box_iou(np.array(each["box"]), row[:4]) > 0.9
            ):
                free.remove(index)
                (pixels,) = coco_mask.decode([each["mask"]]).transpose(2, 0, 1)
                union = (pixels | mask).sum()
                overlaps.append(float((pixels & mask).sum() / union) if union else 1.0)
                break
    return overlaps


def box_iou(one: NDArray[Any], other: NDArray[Any]) -> float:
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    areas = [float(np.prod(box[2:] - box[:2])) for box in (one, other)]
    return shared / (sum(areas) - shared)

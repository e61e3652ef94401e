"""Read a data set by supervision: arguments yolo|coco, images, annotations, names, masks' file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from supervision import DetectionDataset


def main() -> None:
    """Print classes, boxes and class ids of each image, and save the masks."""
    kind, images, annotations, names, masks = sys.argv[1:]
    if kind == "yolo":
        dataset = DetectionDataset.from_yolo(images, annotations, names)
    else:
        dataset = DetectionDataset.from_coco(images, annotations, force_masks=True)
    found, arrays = {}, {}
    for path, _, detections in dataset:
        stem = Path(path).stem
        found[stem] = {
            "class_ids": detections.class_id.tolist(),
            "boxes": detections.xyxy.tolist(),
        }
        if detections.mask is not None:
            arrays[stem] = detections.mask
    np.savez(masks, **arrays)
    print(json.dumps({"classes": dataset.classes, "images": found}))


main()

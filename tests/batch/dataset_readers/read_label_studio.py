"""Check tasks and their interface by label-studio-sdk: arguments tasks, interface, masks' file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from label_studio_sdk.converter.brush import decode_rle
from label_studio_sdk.label_interface import LabelInterface
from label_studio_sdk.label_interface.objects import TaskValue


def main() -> None:
    """Print what is wrong and the labels of the interface, and save the painted masks."""
    tasks, config, masks = map(Path, sys.argv[1:])
    interface = LabelInterface(config.read_text("utf-8"))
    interface.validate()
    errors, arrays = [], {}
    for place, task in enumerate(json.loads(tasks.read_text("utf-8"))):
        TaskValue.model_validate(task)
        if not interface.validate_task({"data": task["data"]}):
            errors.append(f"task {place}: {task['data']}")
        for prediction in task["predictions"]:
            errors += interface.validate_prediction(prediction, return_errors=True)
            for region in prediction["result"]:
                if region["type"] == "brushlabels":
                    size = region["original_height"], region["original_width"], 4
                    pixels = decode_rle(region["value"]["rle"]).reshape(size)
                    arrays[f"{place} {region['value']['brushlabels'][0]}"] = pixels
    np.savez(masks, **arrays)
    labels = list(interface.get_control().labels)
    print(json.dumps({"errors": errors, "labels": labels}))


main()

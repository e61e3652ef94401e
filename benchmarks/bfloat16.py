"""Measure how bfloat16 changes answers from float32, on a CPU as it is served.

- Logits of every variant on photographs, with the weights of ``tests/support/fill.py``, which
  recognise nothing but exercise every norm, bias and scale: the relative error by norms.
- The demo classifier and segmenter on the held-out drawn scenes: top-1 and mean IoU in both dtypes,
  and how often they agree.

    PYTHONPATH=tests python benchmarks/bfloat16.py --photos FOLDER
"""

from __future__ import annotations

import argparse
import copy
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from benchmarks.machine import describe_machine
from model.checkpoints.checkpoint import renamed
from model.config import CLASSIFIERS, SEGMENTERS
from model.evaluation.drawn import SCENES, SIDE_PIXELS
from model.evaluation.metrics import SegmentationCounts
from model.heads.classifier import ImageClassifier
from model.images.preprocess import classification_input, segmentation_input
from model.inference.predictor import Predictor
from model.lowering.folding import fold
from model.scenes.scenes import SEGMENT_NAMES, draw_scene
from model.zoo import create_model
from support.checkpoints import official_state

RESULTS = Path(__file__).parent / "results"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
CPU = torch.device("cpu")
BATCH_SIZE = 8

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class LogitError:
    """Relative error of a variant's logits, by norms.

    Attributes:
        model: the variant.
        photos: number of photographs.
        together: error of all photographs' logits as one vector.
        median: of the photographs' errors.
        largest: of the photographs' errors.
        same_top1: share of photographs whose best class stays.
    """

    model: str
    photos: int
    together: float
    median: float
    largest: float
    same_top1: float


@dataclass(frozen=True)
class Agreement:
    """The demo's answers to the drawn scenes in the two dtypes.

    Attributes:
        metric: "top-1" or "mIoU".
        scenes: number of scenes.
        float32: the metric, percent.
        bfloat16: the metric, percent.
        agreement: share of equal answers, of scenes or of pixels, percent.
    """

    metric: str
    scenes: int
    float32: float
    bfloat16: float
    agreement: float


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what bfloat16 changes.")
    parser.add_argument("--photos", type=Path, help="folder of JPEG files for the logits' error")
    parser.add_argument("--scenes", type=int, default=SCENES)
    arguments = parser.parse_args()
    load_at_start = os.getloadavg()
    photos = sorted(arguments.photos.glob("*.JPEG")) if arguments.photos else []
    errors = [logit_error(name, photos) for name in CLASSIFIERS if name != "demo" and photos]
    agreements = [classified_alike(arguments.scenes), segmented_alike(arguments.scenes)]
    command = "PYTHONPATH=tests python benchmarks/bfloat16.py" + (
        " --photos FOLDER" if photos else ""
    )
    machine = describe_machine(load_at_start, torch.get_num_threads())
    report = {
        "command": command,
        "machine": machine,
        "logits": [asdict(error) for error in errors],
        "demo": [asdict(agreement) for agreement in agreements],
    }
    table = as_markdown(command, machine, errors, agreements)
    (RESULTS / "bfloat16-cpu.json").write_text(json.dumps(report, indent=2) + "\n")
    (RESULTS / "bfloat16-cpu.md").write_text(table)
    print(table)


def predictors(network: torch.nn.Module) -> dict[str, Predictor]:
    """Return the network in both dtypes, as a CPU serves it."""
    return {name: Predictor(copy.deepcopy(network), CPU, dtype) for name, dtype in DTYPES.items()}


def logit_error(name: str, photos: list[Path]) -> LogitError:
    """Compare one variant's logits on photographs."""
    config = CLASSIFIERS[name]
    network = ImageClassifier(config.backbone, 1000)
    network.load_state_dict(renamed(official_state(name)), strict=False)
    both = predictors(fold(network.eval()))
    errors, same = [], 0
    moved = length = 0.0
    for first in tqdm(range(0, len(photos), BATCH_SIZE), desc=name):
        images = [read(path, name) for path in photos[first : first + BATCH_SIZE]]
        want, got = (classify(both[dtype], images) for dtype in DTYPES)
        for a, b in zip(want, got, strict=True):
            errors.append(float(np.linalg.norm(b - a) / np.linalg.norm(a)))
            moved += float(np.square(b - a).sum())
            length += float(np.square(a).sum())
        same += sum(int(a.argmax() == b.argmax()) for a, b in zip(want, got, strict=True))
    return LogitError(
        name,
        len(photos),
        (moved / length) ** 0.5,
        float(np.median(errors)),
        max(errors),
        same / len(photos),
    )


def read(path: Path, name: str) -> Pixels:
    with Image.open(path) as photo:
        return classification_input(photo.convert("RGB"), CLASSIFIERS[name].geometry)


def classify(predictor: Predictor, images: list[Pixels]) -> list[NDArray[np.float32]]:
    """Return every image's logits.

    Raises:
        RuntimeError: if some are not finite.
    """
    rows = predictor.classify(images, (len(images), *images[0].shape[:2]))
    finite = [row for row in rows if row is not None]
    if len(finite) < len(images):
        raise RuntimeError("Some logits are not finite.")
    return finite


def classified_alike(scenes: int) -> Agreement:
    """Classify the drawn scenes in both dtypes."""
    both = predictors(create_model("demo", weights="demo"))
    right, equal = dict.fromkeys(DTYPES, 0), 0
    for first in tqdm(range(0, scenes, BATCH_SIZE), desc="classify"):
        drawn = [
            draw_scene(seed, SIDE_PIXELS, SIDE_PIXELS)
            for seed in range(first, min(first + BATCH_SIZE, scenes))
        ]
        geometry = CLASSIFIERS["demo"].geometry
        images = [classification_input(Image.fromarray(each.image), geometry) for each in drawn]
        classes = {
            dtype: [int(row.argmax()) for row in classify(both[dtype], images)] for dtype in DTYPES
        }
        for dtype, found in classes.items():
            right[dtype] += sum(a == each.label for a, each in zip(found, drawn, strict=True))
        equal += sum(a == b for a, b in zip(*classes.values(), strict=True))
    shares = {dtype: 100 * count / scenes for dtype, count in right.items()}
    return Agreement("top-1", scenes, **shares, agreement=100 * equal / scenes)


def segmented_alike(scenes: int) -> Agreement:
    """Segment the drawn scenes in both dtypes."""
    both = predictors(create_model("demo", task="segment", weights="demo"))
    counts = {dtype: SegmentationCounts(len(SEGMENT_NAMES)) for dtype in DTYPES}
    equal = 0.0
    for seed in tqdm(range(scenes), desc="segment"):
        scene = draw_scene(seed, SIDE_PIXELS, SIDE_PIXELS)
        pixels = segmentation_input(Image.fromarray(scene.image), SEGMENTERS["demo"].geometry)
        maps = {}
        for dtype, predictor in both.items():
            size = (SIDE_PIXELS, SIDE_PIXELS)
            (found,) = predictor.segment([pixels], (1, *pixels.shape[:2]), [size])
            assert found is not None
            counts[dtype].add(found, scene.label_map)
            maps[dtype] = found
        equal += float((maps["float32"] == maps["bfloat16"]).mean())
    shares = {dtype: counts[dtype].metrics()["miou"] or 0.0 for dtype in DTYPES}
    return Agreement("mIoU", scenes, **shares, agreement=100 * equal / scenes)


def as_markdown(
    command: str, machine: dict[str, str], errors: list[LogitError], agreements: list[Agreement]
) -> str:
    """Write the tables for people."""
    lines = ["# bfloat16 against float32 on a CPU", "", f"`{command}`", ""]
    lines += [f"- {fact}: {value}" for fact, value in machine.items()]
    if errors:
        lines += [
            "",
            "Logits, relative error by norms, weights that are functions of their names:",
            "",
            "| model | photographs | together | median | largest | same best class |",
            "| --- | --: | --: | --: | --: | --: |",
            *(
                f"| {each.model} | {each.photos} | {each.together:.2%} "
                f"| {each.median:.2%} | {each.largest:.2%} | {each.same_top1:.1%} |"
                for each in errors
            ),
        ]
    lines += [
        "",
        "The demo's weights on held-out drawn scenes:",
        "",
        "| metric | scenes | float32 | bfloat16 | equal answers |",
        "| --- | --: | --: | --: | --: |",
        *(
            f"| {each.metric} | {each.scenes} | {each.float32:.2f} % | {each.bfloat16:.2f} % "
            f"| {each.agreement:.2f} % |"
            for each in agreements
        ),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

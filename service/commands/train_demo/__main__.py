"""Train the demo weights: ``make train-demo`` (half an hour each on two CPU cores).

It trains a small network of the ``demo`` models on drawn scenes, measures it on scenes that it has
never seen, and writes the weights and what was measured into the folder ``weights`` beside this
file. The segmenter starts from the classifier's backbone. ``--evaluate`` measures existing weights
again and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import save_file
from torch import nn

from model.checkpoints.demo_weights import DEMO_WEIGHTS
from model.config import CLASSIFIERS, Task
from model.demo.classification import ClassificationTask, evaluate_classifier
from model.demo.loop import Phase, Recipe, TrainableTask, TrainingResult, train
from model.demo.segmentation import SegmentationTask, evaluate_segmenter
from model.scenes.scenes import CLASS_NAMES, SEGMENT_NAMES

WEIGHTS_FOLDER = Path(str(files("model.demo"))) / "weights"

HELD_OUT_SCENES = 2000
"""Number of scenes of the evaluation, from seed 0."""

NOTE = (
    "Demo weights, trained on drawn scenes of ten shapes. They show that the service works and "
    "know nothing of photographs."
)


class _TrainedTask(TrainableTask, Protocol):
    def trained(self, network: nn.Module) -> nn.Module:
        """Return the part of the trained network that is kept."""


@dataclass(frozen=True)
class _Demo:
    """A demo network: its task and classes, its evaluation, and its training schedule."""

    task: _TrainedTask
    labels: tuple[str, ...]
    evaluate: Callable[[Path, int], dict[str, Any]]
    peak_learning_rate: float
    phases: Sequence[Phase]


DEMOS: dict[str, _Demo] = {
    Task.CLASSIFY: _Demo(
        ClassificationTask(),
        CLASS_NAMES,
        evaluate_classifier,
        3e-3,
        (Phase(0.5, 96), Phase(0.76, 128), Phase(1.0, 224)),
    ),
    Task.SEGMENT: _Demo(
        SegmentationTask(),
        SEGMENT_NAMES,
        evaluate_segmenter,
        2e-3,
        (Phase(0.3, 96), Phase(0.6, 128), Phase(1.0, 160)),
    ),
}


def measure(demo: str, weights: Path) -> dict[str, Any]:
    """Measure the network that users get, folded for inference, on held-out scenes.

    Args:
        demo: a key of ``DEMOS``.
        weights: path of its weights file.
    """
    scenes = {
        "scenes": HELD_OUT_SCENES,
        "first_seed": 0,
        "side_pixels": CLASSIFIERS["demo"].geometry.crop_size,
    }
    return DEMOS[demo].evaluate(weights, HELD_OUT_SCENES) | {"held_out": scenes}


def save_weights(network: nn.Module, labels: Sequence[str], path: Path) -> None:
    """Write a trained network, float16, with its labels.

    Args:
        network: in its trained form, norms not folded.
        labels: class names in the order of the class ids.
        path: of the safetensors file; its folder is made if need be.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        name: tensor.half().contiguous()
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    metadata = {"model": "demo", "labels": json.dumps(labels), "note": NOTE}
    save_file(state, path, metadata)


def metrics_path(weights: Path) -> Path:
    """Return the path of the JSON facts about a weights file."""
    return weights.with_suffix(".json")


def _training_facts(result: TrainingResult, recipe: Recipe, command: str) -> dict[str, Any]:
    return {
        "training": {
            "command": command,
            "minutes": round(result.minutes, 1),
            "cores": recipe.replicas,
            "scenes": result.scenes,
            "seed": recipe.seed,
            "phases": [
                {"until": phase.until, "side_pixels": phase.side_pixels} for phase in recipe.phases
            ],
        },
        "torch": torch.__version__,
        "note": NOTE,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and measure, or only measure.

    Args:
        arguments: command line; None reads the process's own.
    """
    parser = argparse.ArgumentParser(
        prog="python -m service.commands.train_demo", description=__doc__
    )
    parser.add_argument("task", nargs="?", choices=DEMOS, default="classify")
    parser.add_argument("--minutes", type=float, default=29.0, help="length of the training")
    parser.add_argument("--out", type=Path, default=WEIGHTS_FOLDER, help="folder of the weights")
    parser.add_argument("--seed", type=int, default=0, help="of scenes and initial weights")
    parser.add_argument("--threads", type=int, default=2, help="CPU cores, one replica each")
    parser.add_argument("--evaluate", action="store_true", help="only measure the weights in --out")
    options = parser.parse_args(arguments)
    demo, weights = DEMOS[options.task], options.out / DEMO_WEIGHTS[options.task]

    torch.set_num_threads(options.threads)
    facts: dict[str, Any] = {}
    if not options.evaluate:
        recipe = Recipe(
            minutes=options.minutes,
            seed=options.seed,
            replicas=options.threads,
            peak_learning_rate=demo.peak_learning_rate,
            phases=demo.phases,
        )
        result = train(demo.task, recipe)
        save_weights(demo.task.trained(result.network), demo.labels, weights)
        given = sys.argv[1:] if arguments is None else arguments
        facts = _training_facts(
            result, recipe, " ".join(["python -m service.commands.train_demo", *given])
        )
        torch.set_num_threads(options.threads)
    report = json.dumps(measure(options.task, weights) | facts, indent=2) + "\n"
    if not options.evaluate:
        metrics_path(weights).write_text(report, encoding="utf-8")
    sys.stdout.write(report)


if __name__ == "__main__":
    main()

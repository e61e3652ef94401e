"""Trains the demo weights: ``python -m model.demo.train`` (half an hour on two CPU cores).

It trains the small network of the ``demo`` model from scratch on drawn scenes, measures it on
scenes that it has never seen, and writes the weights and what was measured beside this file.
``--evaluate`` measures existing weights again and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from model.config import CLASSIFIERS
from model.demo.loop import Recipe, TrainingResult, network_input, train
from model.demo.scenes import CLASS_NAMES, SEGMENT_NAMES
from model.demo.stream import SceneBatch, draw_batch
from model.demo.supervision import DenselySupervised, dense_loss
from model.fuse import merge_branches
from model.zoo import create_model

WEIGHTS_FOLDER = Path(__file__).parent / "weights"
WEIGHTS_NAME = "overlock_nano.safetensors"
METRICS_NAME = "metrics.json"

HELD_OUT_SCENES = 2000
"""Evaluation draws the scenes of seeds 0 to this, less one."""

NOTE = (
    "Demo weights, trained on drawn scenes of ten shapes. They show that the service works and "
    "know nothing of photographs."
)

_EVALUATION_BATCH_SIZE = 50


@dataclass(frozen=True)
class ClassificationTask:
    """Name the shape that a scene shows.

    Attributes:
        label_smoothing: probability that the target leaves to the other classes.
        dense_weight: of the label maps' loss beside the labels'.
    """

    label_smoothing: float = 0.05
    dense_weight: float = 1.0

    def create_network(self) -> nn.Module:
        """Return the demo classifier with random weights, branches merged, and training heads."""
        network = create_model("demo", weights="random", num_classes=len(CLASS_NAMES), fused=False)
        return DenselySupervised(merge_branches(network), len(SEGMENT_NAMES))

    def loss(self, outputs: tuple[Tensor, ...], batch: SceneBatch) -> Tensor:
        """Return the cross entropy of labels and label maps, a scalar."""
        logits, *segment_logits = outputs
        labels = torch.from_numpy(batch.labels)
        label_maps = torch.from_numpy(batch.label_maps).long()
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        return loss + self.dense_weight * dense_loss(segment_logits, label_maps)

    def accuracy(self, outputs: tuple[Tensor, ...], batch: SceneBatch) -> float:
        """Return the share of scenes whose highest logit, of (B, classes), is right."""
        return float((outputs[0].argmax(dim=1).numpy() == batch.labels).mean())


def evaluate(weights: Path, scenes: int = HELD_OUT_SCENES) -> dict[str, Any]:
    """Measure the classifier that users get, folded for inference, on held-out scenes.

    Args:
        weights: path of a weights file for the ``demo`` model.
        scenes: how many held-out scenes, from seed 0.

    Returns:
        ``top1``, ``top1_by_class`` (shares from 0 to 1) and which scenes they are of.
    """
    network = create_model("demo", weights=weights)
    labels, predictions = [], []
    with torch.inference_mode():
        for batch in _held_out_batches(scenes):
            logits = network(network_input(batch.images))
            predictions.append(logits.argmax(dim=1).numpy())
            labels.append(batch.labels)
    label, right = np.concatenate(labels), np.concatenate(labels) == np.concatenate(predictions)
    return {
        "top1": float(right.mean()),
        "top1_by_class": {
            name: round(float(right[label == class_id].mean()), 4)
            for class_id, name in enumerate(CLASS_NAMES)
        },
        "held_out": {
            "scenes": scenes,
            "first_seed": 0,
            "side_pixels": CLASSIFIERS["demo"].geometry.crop_size,
        },
    }


def _held_out_batches(scenes: int) -> Iterator[SceneBatch]:
    side_pixels = CLASSIFIERS["demo"].geometry.crop_size
    for first_seed in tqdm(range(0, scenes, _EVALUATION_BATCH_SIZE), desc="evaluating"):
        count = min(_EVALUATION_BATCH_SIZE, scenes - first_seed)
        yield draw_batch(first_seed, count, side_pixels)


def save_weights(network: nn.Module, path: Path) -> None:
    """Write a trained network, float16, with its labels.

    Args:
        network: in its trained form, norms not folded.
        path: of the safetensors file; its folder is made if need be.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        name: tensor.half().contiguous()
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    metadata = {"model": "demo", "labels": json.dumps(CLASS_NAMES), "note": NOTE}
    save_file(state, path, metadata)


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
    parser = argparse.ArgumentParser(prog="python -m model.demo.train", description=__doc__)
    parser.add_argument("--minutes", type=float, default=27.0, help="length of the training")
    parser.add_argument("--out", type=Path, default=WEIGHTS_FOLDER, help="folder of the weights")
    parser.add_argument("--seed", type=int, default=0, help="of scenes and initial weights")
    parser.add_argument("--threads", type=int, default=2, help="CPU cores, one replica each")
    parser.add_argument("--evaluate", action="store_true", help="only measure the weights in --out")
    options = parser.parse_args(arguments)
    weights, metrics = options.out / WEIGHTS_NAME, options.out / METRICS_NAME

    torch.set_num_threads(options.threads)
    facts: dict[str, Any] = {}
    if not options.evaluate:
        recipe = Recipe(minutes=options.minutes, seed=options.seed, replicas=options.threads)
        result = train(ClassificationTask(), recipe)
        save_weights(cast("DenselySupervised", result.network).network, weights)
        given = sys.argv[1:] if arguments is None else arguments
        facts = _training_facts(result, recipe, " ".join(["python -m model.demo.train", *given]))
        torch.set_num_threads(options.threads)
    report = json.dumps(evaluate(weights) | facts, indent=2) + "\n"
    if not options.evaluate:
        metrics.write_text(report, encoding="utf-8")
    sys.stdout.write(report)


if __name__ == "__main__":
    main()

"""The training loop of the demo networks, with a budget of minutes.

One replica of the network runs on each core and draws its own scenes; after every step the
gradients are averaged. Small networks train faster this way than with threads in one process.

The clock drives the schedule: a slow machine takes fewer steps, and still goes through every image
size and down to the last learning rate. The same seed therefore does not give the same weights.
"""

from __future__ import annotations

import math
import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Never, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from model.config import IMAGE_MEAN, IMAGE_STD
from model.demo.fast_training import speed_up_training
from model.demo.stream import SceneBatch, draw_batch, training_seed


class TrainableTask(Protocol):
    """A training task on scenes; it is pickled for other processes."""

    def create_network(self) -> nn.Module:
        """Return the network with its initial weights, in its trained form, branches merged."""

    def loss(self, outputs: tuple[Tensor, ...], batch: SceneBatch) -> Tensor:
        """Return the mean loss of a batch, a scalar."""

    def accuracy(self, outputs: tuple[Tensor, ...], batch: SceneBatch) -> float:
        """Return the share of right answers in a batch, for the progress bar."""


@dataclass(frozen=True)
class Phase:
    """A part of the training at one image size.

    Attributes:
        until: share of the time at which it ends, in (0, 1].
        side_pixels: height and width of the scenes.
    """

    until: float
    side_pixels: int


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of a training run.

    Attributes:
        minutes: length of the training.
        seed: of the scenes and the initial weights.
        replicas: processes that train together, one core each.
        peak_learning_rate: reached after the warm-up, left along a cosine.
        phases: image sizes in the order of training, the last one until 1.
        batch_size: scenes in a replica's step.
        warmup: share of the time in which the learning rate rises.
        weight_decay: of all parameters with two axes or more.
        gradient_norm: gradients above this norm are scaled down to it.
    """

    minutes: float
    seed: int
    replicas: int
    peak_learning_rate: float
    phases: Sequence[Phase]
    batch_size: int = 16
    warmup: float = 0.03
    weight_decay: float = 0.05
    gradient_norm: float = 2.0

    def side_pixels(self, progress: float) -> int:
        """Return the image size at a share of the time."""
        return next((p for p in self.phases if progress < p.until), self.phases[-1]).side_pixels

    def learning_rate(self, progress: float) -> float:
        """Return the learning rate at a share of the time."""
        rise = min(1.0, progress / self.warmup)
        fall = 0.5 + 0.5 * math.cos(math.pi * min(1.0, progress))
        return self.peak_learning_rate * rise * fall


@dataclass(frozen=True)
class TrainingResult:
    """Result of a training run.

    Attributes:
        network: the trained network, in evaluation mode.
        scenes: number of scenes seen, each once.
        minutes: duration.
    """

    network: nn.Module
    scenes: int
    minutes: float


def network_input(images: NDArray[np.uint8]) -> Tensor:
    """Normalise images as the service does.

    Args:
        images: RGB, uint8 (B, H, W, 3).

    Returns:
        (B, 3, H, W) float32, in the channels_last memory format.
    """
    pixels = torch.from_numpy(images).float() / 255
    normalised = (pixels - torch.tensor(IMAGE_MEAN)) / torch.tensor(IMAGE_STD)
    return normalised.permute(0, 3, 1, 2)  # (B, H, W, 3) -> (B, 3, H, W), a view


def train(task: TrainableTask, recipe: Recipe) -> TrainingResult:
    """Train a task's network from scratch.

    Args:
        task: makes the network and judges its outputs.
        recipe: hyperparameters, duration and number of cores.

    Returns:
        The network and the facts of the run.
    """
    # spawn: a forked child of a process that has run torch may hang.
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        rendezvous = Path(folder) / "replicas"
        others = [
            context.Process(target=_train_replica, args=(task, recipe, rank, rendezvous))
            for rank in range(1, recipe.replicas)
        ]
        for process in others:
            process.start()
        result = _train_replica(task, recipe, 0, rendezvous)
        for process in others:
            process.join()
    return result


def _train_replica(
    task: TrainableTask, recipe: Recipe, rank: int, rendezvous: Path
) -> TrainingResult:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo",
        init_method=rendezvous.as_uri(),
        rank=rank,
        world_size=recipe.replicas,
    )
    torch.manual_seed(recipe.seed)
    network = task.create_network()
    speed_up_training(network)
    network.train().requires_grad_(requires_grad=True)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    try:
        result = _fit(network, task, recipe, rank)
    finally:
        distributed.destroy_process_group()
    network.eval().requires_grad_(requires_grad=False)
    return result


def _fit(network: nn.Module, task: TrainableTask, recipe: Recipe, rank: int) -> TrainingResult:
    replica = DistributedDataParallel(network)
    optimizer = _optimizer(network, recipe)
    scenes = 0
    started_seconds = time.monotonic()
    with _progress_bar(recipe, hidden=rank != 0) as bar:
        while (progress := _shared_progress(started_seconds, recipe)) < 1:
            first_seed = training_seed(recipe.seed, scenes + rank * recipe.batch_size)
            batch = draw_batch(first_seed, recipe.batch_size, recipe.side_pixels(progress))
            outputs = replica(network_input(batch.images))
            loss = task.loss(outputs, batch)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), recipe.gradient_norm)
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate(progress)
            optimizer.step()
            scenes += recipe.replicas * recipe.batch_size
            bar.update(round(60 * recipe.minutes * progress) - bar.n)
            bar.set_postfix(
                side=batch.images.shape[1],
                scenes=scenes,
                loss=f"{loss.item():.3f}",
                accuracy=f"{task.accuracy(outputs, batch):.3f}",
            )
    return TrainingResult(network, scenes, (time.monotonic() - started_seconds) / 60)


def _shared_progress(started_seconds: float, recipe: Recipe) -> float:
    # The replicas' clocks differ a little, and a step that only one of them takes never ends.
    elapsed_seconds = torch.tensor(time.monotonic() - started_seconds)
    distributed.broadcast(elapsed_seconds, src=0)
    return elapsed_seconds.item() / (60 * recipe.minutes)


def _progress_bar(recipe: Recipe, *, hidden: bool) -> tqdm[Never]:
    return tqdm(
        total=round(60 * recipe.minutes),
        desc="training",
        bar_format="{desc} {percentage:3.0f}% |{bar}| {elapsed} < {remaining}{postfix}",
        disable=hidden,
    )


def _optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    parameters = list(network.parameters())
    return torch.optim.AdamW(
        [
            {"params": [p for p in parameters if _decays(p)], "weight_decay": recipe.weight_decay},
            {"params": [p for p in parameters if not _decays(p)], "weight_decay": 0.0},
        ],
        lr=recipe.peak_learning_rate,
        betas=(0.9, 0.98),
    )


def _decays(parameter: Tensor) -> bool:
    # Norms and scales, (C,), (1, C, 1, 1) or (C, 1, 1, 1), must not be pulled towards zero.
    return sum(side > 1 for side in parameter.shape) >= 2

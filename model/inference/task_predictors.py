"""A network at work on its tasks: its own, embeddings and, of a classifier, explanations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import nn

from model.config import Task
from model.heads.classifier import ImageClassifier
from model.heads.detections import Detections
from model.heads.embedding import Embeddable
from model.images.input_config import InputConfig
from model.inference.passes import BEST, EmbeddingNetwork, ExplainingNetwork, Explanation
from model.inference.predictor import Image, Predictor
from model.inference.recordings import Recordings
from model.inference.staging import Staging
from model.kernels.gpu.autotune import Autotuner

if TYPE_CHECKING:
    from numpy.typing import NDArray

ImageArrays: TypeAlias = "tuple[tuple[NDArray[Any], ...] | None, ...]"
"""The arrays of each image's result; None where the network's output was not finite."""

LAUNCHED = frozenset({Task.CLASSIFY, Task.EMBED, Task.EXPLAIN})
"""Tasks whose results need nothing of the host while they are made."""


class AskedImage(Protocol):
    """An image, and what is asked of it."""

    @property
    def image(self) -> Image:
        """Its pixels, not larger than the batch's."""

    @property
    def original_size(self) -> tuple[int, int]:
        """Height and width of the caller's image, for a dense task."""

    @property
    def layer(self) -> str | None:
        """Layer of an embedding; None for the network's default one."""

    @property
    def class_ids(self) -> tuple[int, ...]:
        """Classes of an explanation's maps, where ``BEST`` stands for the next best one."""

    @property
    def logits(self) -> bool:
        """Whether a segmenter's logits are wanted instead of the label map."""


class TaskPredictors:
    """Runs batches of a network's tasks; a predictor for each, which share weights and kernels.

    Args:
        network: folded, in evaluation mode; moved and lowered in place.
        task: the network's own.
        device: as ``Predictor`` takes it, like the following ones.
        dtype: see there.
        staging: see there.
        recordings: see there.
        input_config: see there.
        compiler: see there.
        autotuner: see there.

    Attributes:
        own: the predictor of the network's own task.
        tasks: all tasks, the own one first.
    """

    def __init__(
        self,
        network: Embeddable,
        task: Task,
        device: torch.device,
        dtype: torch.dtype,
        staging: Staging,
        recordings: Recordings | None,
        *,
        input_config: InputConfig,
        compiler: str | None,
        autotuner: Autotuner,
    ) -> None:
        def predictor(network: nn.Module) -> Predictor:
            return Predictor(
                network,
                device,
                dtype,
                staging,
                recordings,
                input_config=input_config,
                compiler=compiler,
                autotuner=autotuner,
            )

        self.own = predictor(network)
        lowered = self.own.network
        assert isinstance(lowered, Embeddable)
        embedder = EmbeddingNetwork(lowered)
        self._columns = embedder.layers
        self._predictors = {task: self.own, Task.EMBED: predictor(embedder)}
        if isinstance(lowered, ImageClassifier):
            self._predictors[Task.EXPLAIN] = predictor(ExplainingNetwork(lowered))
        self.tasks = tuple(self._predictors)

    @property
    def predictors(self) -> tuple[Predictor, ...]:
        """The predictors of all tasks."""
        return tuple(self._predictors.values())

    def launch(
        self, task: Task, asked: Sequence[AskedImage], shape: tuple[int, int, int]
    ) -> Callable[[], ImageArrays]:
        """Launch a batch.

        Args:
            task: one of ``tasks``.
            asked: at least one image.
            shape: of the batch, (B, H, W); entries behind the last image are padding.

        Returns:
            A function that finishes it, of a task in ``LAUNCHED`` on any thread. An image's arrays
            are, by task: the logits (classes,); the label map (h, w) in the original size, or
            ``relative_logits``; boxes (N, 4), scores (N,), labels (N,) and masks (N, 28, 28); the
            layer's embedding (D,); logits (classes,), class ids (k,), the head's maps (k, h, w)
            and, if there is such a head, the overview's.
        """
        predictor, images = self._predictors[task], [each.image for each in asked]
        match task:
            case Task.CLASSIFY:
                logits = predictor.launch(images, shape)
                return lambda: _each(logits())
            case Task.EMBED:
                return self._launch_embeddings(predictor, asked, shape)
            case Task.EXPLAIN:
                return self._launch_explanations(predictor, asked, shape)
            case Task.SEGMENT:
                maps = predictor.pixel_logits(images, shape)
                sizes = [None if each.logits else each.original_size for each in asked]
                return lambda: _each(predictor.label_maps(maps, shape[1:], sizes))
            case Task.DETECT:
                found = predictor.detect(images, shape, [each.original_size for each in asked])
                return lambda: tuple(None if each is None else arrays_of(each) for each in found)

    def _launch_embeddings(
        self, predictor: Predictor, asked: Sequence[AskedImage], shape: tuple[int, int, int]
    ) -> Callable[[], ImageArrays]:
        default = next(iter(self._columns))
        columns = [self._columns[each.layer or default] for each in asked]
        rows = predictor.launch([each.image for each in asked], shape)
        return lambda: tuple(
            None if row is None else (row[wanted],)
            for row, wanted in zip(rows(), columns, strict=True)
        )

    def _launch_explanations(
        self, predictor: Predictor, asked: Sequence[AskedImage], shape: tuple[int, int, int]
    ) -> Callable[[], ImageArrays]:
        most = max(len(each.class_ids) for each in asked)
        wanted = [(*each.class_ids, *(BEST,) * (most - len(each.class_ids))) for each in asked]
        found = predictor.launch_explanations([each.image for each in asked], shape, wanted)
        return lambda: tuple(
            None if each is None else _first(each, len(image.class_ids))
            for each, image in zip(found(), asked, strict=True)
        )


def _first(explanation: Explanation, count: int) -> tuple[NDArray[Any], ...] | None:
    """Return an explanation's arrays, of its first classes; None if a map overflowed."""
    kept = (explanation.class_ids, explanation.focus, explanation.overview)
    of_classes = [each[:count] for each in kept if each is not None]
    finite = all(np.isfinite(each).all() for each in of_classes)
    return (explanation.logits, *of_classes) if finite else None


def arrays_of(found: Detections) -> tuple[NDArray[Any], ...]:
    """Return boxes, scores, labels and masks of an image's detections."""
    return tuple(
        tensor.contiguous().numpy()
        for tensor in (found.boxes, found.scores, found.labels, found.masks)
    )


def _each(rows: Sequence[NDArray[np.generic] | None]) -> ImageArrays:
    return tuple(None if row is None else (row,) for row in rows)

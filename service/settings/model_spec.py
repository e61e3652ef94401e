"""The models to serve, each in one value, as the variables or the models file state them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from model.config import BackboneConfig, NetworkKind, Task
from model.images.input_config import InputOptions
from service.settings.settings import PREFIX, Settings

DEMO_SEGMENTER = "demo-segment"
"""Name of the demo's segmenter; its classifier is named demo."""

Activation = Literal["softmax", "sigmoid"]
"""What makes scores of a classifier's logits: one class of all, or each for itself."""


@dataclass(frozen=True)
class ModelSpec:
    """A model to serve.

    Attributes:
        name: in answers, metrics, logs and ``/v1/models``.
        task: that it answers.
        architecture: a name that ``model.zoo`` takes; None for a backbone of one's own.
        weights: as ``model.zoo`` takes them.
        labels: file with its classes' names; None for the checkpoint's own.
        input: what is stated of its input.
        activation: a classifier's; None for sigmoid where it has one output, else softmax.
        ema: whether to take EMA weights where a file has both.
        backbone: fields of ``BackboneConfig`` that are stated, where the network has no name.
        kind: of the network on such a backbone.
        default: whether it is stated to be the default of its task; else the first one is.
        sha256: that the weights must have, hexadecimal; None for any.
        blames: the setting that states a value, by field; for messages.
    """

    name: str
    task: Task
    architecture: str | None
    weights: str
    labels: Path | None = None
    input: InputOptions = field(default_factory=InputOptions)
    activation: Activation | None = None
    ema: bool = True
    sha256: str | None = None
    default: bool = False
    backbone: Mapping[str, Any] = field(default_factory=dict)
    kind: NetworkKind | None = None
    blames: Mapping[str, str] = field(default_factory=dict)

    @property
    def network(self) -> str | BackboneConfig | Mapping[str, Any]:
        """The network as ``model.zoo`` takes it."""
        if self.architecture is not None:
            return self.architecture
        # Nothing states the rest of a network without a file.
        return BackboneConfig(**self.backbone) if self.weights == "random" else self.backbone

    def blame(self, value: str) -> str:
        """Return the setting to change for a value: a variable, or a key of the models file."""
        return self.blames.get(value, self.name)


def spec_of_variables(settings: Settings, task: Task) -> ModelSpec | None:
    """Return the model that a task's three variables state; None if it is off."""
    name = settings.model_of(task)
    if name is None:
        return None
    family = f"{PREFIX}{task.upper()}_"
    return ModelSpec(
        # Both of the demo's networks have one architecture's name, and a name has one model.
        name=DEMO_SEGMENTER if (name, task) == ("demo", Task.SEGMENT) else name,
        task=task,
        architecture=name,
        weights=getattr(settings, f"{task}_weights") or "demo",
        labels=getattr(settings, f"{task}_labels"),
        blames={
            "architecture": f"{family}MODEL",
            "weights": f"{family}WEIGHTS",
            "labels": f"{family}LABELS",
        },
    )

"""The shape of a backbone, read from the shapes of a checkpoint's entries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from math import inf, isqrt, nextafter

from model.checkpoints.checkpoint import Checkpoint, CheckpointError, refuse_folded
from model.checkpoints.official_names import official_naming_of
from model.config import BackboneConfig

BASIC_STAGES = ("stage1", "stage2", "stage3", "overview")
FOCUS_STAGES = ("focus3", "focus4")


def backbone_of(
    checkpoint: Checkpoint, given: Mapping[str, object] | None = None
) -> BackboneConfig:
    """Return the variant that a checkpoint's weights are of.

    Everything can be read from a file but the width of a classifier's projection where there is no
    classifier, and ratios of hidden widths more exactly than to a channel.

    Args:
        checkpoint: of any network on a backbone.
        given: fields of ``BackboneConfig`` by name, which are compared with the file. Lists stand
            for tuples.

    Raises:
        CheckpointError: if an entry is missing, a given field is not the file's, or the file is of
            a backbone that the authors' code does not build.
        ValueError: if a given field is unknown, or its value cannot be.
    """
    given = given or {}
    known = [field.name for field in fields(BackboneConfig)]
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ValueError(f"A backbone has no {unknown[0]!r}; it has {', '.join(known)}.")
    refuse_folded(checkpoint)
    found = _Shapes(checkpoint).fields()
    try:
        of_file = BackboneConfig(**found)  # type: ignore[arg-type]
    except ValueError as error:
        raise CheckpointError(
            f"{checkpoint.path} is of a backbone that is none: {error}"
        ) from error
    for name, value in given.items():
        if name in found and not _agrees(name, value, found, of_file):
            raise CheckpointError(
                f"The backbone's {name} is given as {value!r}, but that of {checkpoint.path} is "
                f"{getattr(of_file, name)!r}."
            )
    return BackboneConfig(**(found | {**given}))  # type: ignore[arg-type]


def _agrees(name: str, value: object, found: dict[str, object], of_file: BackboneConfig) -> bool:
    if name not in {"mlp_ratio", "focus_mlp_ratio"}:
        return found[name] == (tuple(value) if isinstance(value, list) else value)
    # Several ratios make the same width.
    stated = BackboneConfig(**(found | {name: value}))  # type: ignore[arg-type]
    stages = range(4) if name == "mlp_ratio" else (2, 3)
    widths = BackboneConfig.hidden_channels, BackboneConfig.focus_hidden_channels
    width = widths[name == "focus_mlp_ratio"]
    return all(width(stated, stage) == width(of_file, stage) for stage in stages)


class _Shapes:
    """The shapes of a checkpoint's entries, and what they say."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._kernel = "large_kernel.conv" if checkpoint.merged else "large_kernel.conv.large.conv"

    def fields(self) -> dict[str, object]:
        """Return all fields of ``BackboneConfig`` that a file states."""
        channels = tuple(self._size(f"{stage}.0.norm.weight", 0) for stage in BASIC_STAGES)
        found: dict[str, object] = {
            "depths": tuple(map(self._depth, BASIC_STAGES)),
            "focus_depths": tuple(map(self._depth, FOCUS_STAGES)),
            "channels": channels,
            "focus_heads": tuple(
                self._size(f"{stage}.0.context_mixing.large_position_bias", 0) // 2
                for stage in FOCUS_STAGES
            ),
            "kernel_sizes": tuple(
                self._size(f"{stage}.0.{self._kernel}.weight", 3) for stage in BASIC_STAGES
            ),
            "small_kernel": (
                (self._size("focus3.0.context_mixing.small_position_bias", 1) + 1) // 2
            ),
            "mlp_ratio": self._ratios(BASIC_STAGES, channels),
            "focus_mlp_ratio": self._ratios(FOCUS_STAGES, channels[2:]),
            "layer_scale": tuple(
                f"backbone.{stage}.0.identity_scale.weight" in self._checkpoint.state
                for stage in BASIC_STAGES
            ),
            "context_grid": isqrt(self._size("focus3.0.context_mixing.mix_weights.weight", 1)),
            "in_channels": self._size("stem.layers.0.conv.weight", 1),
        }
        projection = self._checkpoint.state.get("head.project.conv.weight")
        if projection is not None and projection.ndim:
            found["head_channels"] = projection.shape[0]
        return found

    def _size(self, name: str, axis: int) -> int:
        name = f"backbone.{name}"
        tensor = self._checkpoint.state.get(name)
        if tensor is None or tensor.ndim <= axis:
            if self._checkpoint.is_official:
                name = official_naming_of(self._checkpoint.state)(name)
            raise CheckpointError(
                f"{self._checkpoint.path} holds no {name} from which the shape of its backbone can "
                "be read."
            )
        return tensor.shape[axis]

    def _depth(self, stage: str) -> int:
        names, depth = self._checkpoint.state, 0
        while f"backbone.{stage}.{depth}.feed_forward.expand.weight" in names:
            depth += 1
        return depth

    def _ratios(self, stages: tuple[str, ...], channels: tuple[int, ...]) -> tuple[float, ...]:
        return tuple(
            _ratio(self._size(f"{stage}.0.feed_forward.expand.weight", 0), width)
            for stage, width in zip(stages, channels, strict=True)
        )


def _ratio(hidden: int, channels: int) -> float:
    """Return the ratio that makes a hidden width; a quotient may be a rounding too small."""
    if channels == 0 or hidden % channels == 0:
        return hidden // channels if channels else 0
    ratio = hidden / channels
    return ratio if int(channels * ratio) == hidden else nextafter(ratio, inf)

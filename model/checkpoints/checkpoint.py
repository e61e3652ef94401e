"""Read checkpoints: the authors' files in every wrapping, fine-tuned ones, and our own.

Loading is safe (nothing in a file can run) and strict (every parameter of the network is in the
file, and every entry of the file is used, or ignored by a name that is listed here).

Source: the authors' release files; ``docs/adr/0002-parameter-names.md``.
"""

from __future__ import annotations

import argparse
import hashlib
import pickle
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from model.checkpoints.class_table import (
    ClassTable,
    ClassTableError,
    classes_from_meta,
    classes_from_metadata,
)
from model.checkpoints.file_kind import weights_file_problem
from model.checkpoints.official_names import naming_of
from model.checkpoints.safe_pickle import INERT_GLOBALS
from model.config import BACKBONES

WRAPPINGS = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Keys under which training scripts store the weights; averaged ones win where both are stored."""

DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
"""Exceptions of torch's unpickler for a truncated or altered file."""


class CheckpointError(ValueError):
    """A file is not a checkpoint, or does not fit the network; the message says why."""


@dataclass(frozen=True)
class Checkpoint:
    """The contents of a weights file, under our parameter names.

    Attributes:
        path: the file.
        digest: SHA-256 of the file, hexadecimal.
        state: parameters and statistics by our names.
        classes: names and colours of the classes, where the file states them.
    """

    path: Path
    digest: str
    state: dict[str, Tensor]
    classes: ClassTable

    @property
    def merged(self) -> bool:
        """Whether the large kernels' branches are merged already."""
        return not any(".conv.dilated." in name for name in self.state)

    def rows_of(self, name: str) -> int:
        """Return the number of rows of an entry: of a classifying layer, its number of classes.

        Raises:
            CheckpointError: if there is no such entry.
        """
        weight = self.state.get(name)
        if weight is None or not weight.ndim or not weight.numel():
            raise CheckpointError(f"{self.path} holds no {name}: it is of another kind of network.")
        return weight.shape[0]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a weights file of any supported form.

    Args:
        path: a ``.pth`` file of the authors or of a training script around their network (flat,
            or wrapped as one of ``WRAPPINGS``, with or without a ``module.`` prefix, branches
            merged or not), one of mmsegmentation or mmdetection, or a ``.safetensors`` file under
            the authors' names or ours.

    Raises:
        CheckpointError: if the file is missing, truncated, not a checkpoint, ambiguous, or needs
            to run code.
    """
    problem = weights_file_problem(path)
    if problem is not None:
        raise CheckpointError(problem)
    try:
        if path.suffix == ".safetensors":
            contents, metadata = _read_safetensors(path)
            classes = classes_from_metadata(metadata)
        else:
            contents = _read_pickle(path)
            classes = classes_from_meta(contents)
    except ClassTableError as error:
        raise CheckpointError(f"{path} has an invalid class table: {error}.") from error
    return Checkpoint(
        path=path, digest=_digest(path), state=renamed(_unwrapped(contents, path)), classes=classes
    )


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop what inference ignores and translate the authors' names into ours.

    Raises:
        CheckpointError: if two entries are the same parameter.
    """
    our_name = naming_of(state)
    result = {}
    for official, tensor in state.items():
        name = our_name(official)
        if name in result:
            raise CheckpointError(f"{name} comes twice, the second time as {official}.")
        if name is not None:
            result[name] = tensor
    return result


def load_strictly(network: nn.Module, checkpoint: Checkpoint) -> None:
    """Copy a checkpoint into a network that has exactly the same parameters.

    Raises:
        CheckpointError: listing every missing, unexpected, wrongly shaped and unusable entry.
    """
    expected = {
        name: tensor.shape
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    found = {name: tensor.shape for name, tensor in checkpoint.state.items()}
    missing = sorted(expected.keys() - found.keys())
    unexpected = sorted(found.keys() - expected.keys())
    misshapen = [
        f"{name} is {tuple(found[name])}, not {tuple(expected[name])}"
        for name in sorted(expected.keys() & found.keys())
        if found[name] != expected[name]
    ]
    unusable = sorted(
        name
        for name, tensor in checkpoint.state.items()
        if not tensor.is_floating_point() or tensor.layout != torch.strided
    )
    problems = [
        f"{len(names)} {kind}: {_listed(names)}"
        for kind, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of the wrong shape", misshapen),
            ("not plain floating-point tensors", unusable),
        )
        if names
    ]
    if problems:
        found_backbone, backbone = map(_backbone_of, (checkpoint.state, network.state_dict()))
        guess = f"It looks like {found_backbone}, not {backbone}. "
        raise CheckpointError(
            f"{checkpoint.path} does not fit the network. "
            + (guess if found_backbone not in {None, backbone} else "")
            + "; ".join(problems)
        )
    network.load_state_dict(checkpoint.state, strict=False)


def _backbone_of(state: dict[str, Tensor]) -> str | None:
    """Identify the variant by the widths of its stages, all different; None if unknown."""
    convolutions = [state.get(f"backbone.downsample{stage}.conv.weight") for stage in (2, 3)]
    widths = [weight.shape[0] for weight in convolutions if weight is not None and weight.ndim]
    names = (name for name, config in BACKBONES.items() if [*config.channels[1:3]] == widths)
    return next(names, None)


def _listed(names: list[str], at_most: int = 20) -> str:
    shown = ", ".join(names[:at_most])
    return shown if len(names) <= at_most else f"{shown} and {len(names) - at_most} more"


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        return dict(load_file(path)), metadata
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is no intact safetensors file: {error}") from error


def _read_pickle(path: Path) -> Any:
    try:
        # timm's training script stores its arguments beside the weights; a Namespace is inert.
        with torch.serialization.safe_globals([argparse.Namespace, *INERT_GLOBALS]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is no plain weights file: loading it would run code of its own, or it is "
            "damaged. It was not loaded."
        ) from error
    except DAMAGE as error:
        raise CheckpointError(f"{path} is truncated or no PyTorch checkpoint: {error}") from error


def _unwrapped(contents: Any, path: Path) -> dict[str, Tensor]:
    """Find the flat mapping from names to tensors inside what a training script stored."""
    while isinstance(contents, dict):
        wrapping = next((key for key in WRAPPINGS if isinstance(contents.get(key), dict)), None)
        if wrapping is None:
            break
        contents = contents[wrapping]
    if not isinstance(contents, dict) or not contents:
        raise CheckpointError(f"{path} holds no weights: it is no mapping from names to tensors.")
    strays = [
        str(name)
        for name, value in contents.items()
        if not isinstance(name, str) or not isinstance(value, Tensor)
    ]
    if strays:
        raise CheckpointError(f"{path} holds entries that are no named tensors: {_listed(strays)}")
    return contents


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

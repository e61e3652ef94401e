"""Read checkpoints: the authors' files in every wrapping, fine-tuned ones, and our own.

Loading is safe (nothing in a file can run) and strict (every parameter of the network is in the
file, and every entry of the file is used, or ignored by a name that is listed in
``official_names``). Only the norms' counters may be missing.

Source: the authors' release files; ``docs/adr/0002-parameter-names.md``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load_file
from torch import Tensor, nn

from model.checkpoints.class_table import (
    ClassTable,
    ClassTableError,
    classes_from_hub,
    classes_from_meta,
    classes_from_metadata,
)
from model.checkpoints.file_kind import weights_file_in, weights_file_problem
from model.checkpoints.find_weights import (
    FoundWeights,
    WeightsError,
    WeightsKind,
    find_weights,
    listed,
)
from model.checkpoints.hub_config import CONFIG_FILE, hub_config
from model.checkpoints.official_names import naming_of, official_naming_of
from model.checkpoints.stand_ins import StoredTensor
from model.checkpoints.stated_input import either, stated_input
from model.checkpoints.torch_file import TorchFileError, read_torch_file
from model.config import BACKBONES, NetworkKind
from model.images.input_config import InputOptions

OWN_SHAPE = (
    "Its backbone has none of the named shapes: give it as one's own, by a table [NAME.backbone] "
    "in a models file, or by create_model({}, ...). "
)
"""Said of a file that fits no named network."""


class CheckpointError(ValueError):
    """A file is not a checkpoint, or does not fit the network; the message says why."""


@dataclass(frozen=True)
class Checkpoint:
    """The contents of a weights file, under our parameter names.

    Attributes:
        path: the file.
        digest: SHA-256 of the file, hexadecimal.
        state: parameters and statistics by our names; views of the file, so they hold while it
            is not overwritten.
        classes: names and colours of the classes, where the file states them.
        names: the names in the file by ours.
        weights_kind: "ema" for averaged weights, else "raw".
        has_both: whether the file holds weights of both kinds.
        input: what the file, or a hub's ``config.json`` beside it, states of the network's input;
            what makes no sense is left out.
        source: the address that it was fetched from, pinned to a version; None for others.
    """

    path: Path
    digest: str
    state: dict[str, Tensor]
    classes: ClassTable
    names: dict[str, str]
    weights_kind: WeightsKind
    has_both: bool
    input: InputOptions
    source: str | None = None

    def name_of(self, ours: str) -> str:
        """Return an entry's name in the file, or ours where the file has none."""
        return self.names.get(ours, ours)

    @property
    def is_official(self) -> bool:
        """Whether the file has the authors' names."""
        return any(ours != name for ours, name in self.names.items())

    @property
    def merged(self) -> bool:
        """Whether the large kernels' branches are merged already."""
        return not any(".conv.dilated." in name for name in self.state)


def read_checkpoint(path: Path, *, ema: bool = True) -> Checkpoint:
    """Read a weights file of any supported form.

    Args:
        path: a file of ``torch.save`` or a ``.safetensors`` file, under the authors' names,
            mmsegmentation's, mmdetection's or ours, branches merged or not, in any wrapping that
            ``find_weights`` knows; or a folder with exactly one such file.
        ema: whether to prefer averaged weights; otherwise the raw ones are required.

    Raises:
        CheckpointError: if the file is missing, truncated, not a checkpoint, ambiguous, or of
            another network.
    """
    problem = weights_file_problem(path)
    if problem is not None:
        raise CheckpointError(problem)
    given, path = path, weights_file_in(path)
    try:
        read = _read_safetensors if path.suffix == ".safetensors" else _read_torch_file
        found, classes, words = read(path, ema)
        _refuse_partitioned(found.state)
        state = renamed(found.state)
    except ClassTableError as error:
        raise CheckpointError(f"{path} has an invalid class table: {error}.") from error
    except WeightsError as error:
        raise CheckpointError(f"{path} {error}") from error
    config, config_path = hub_config(given, path), path.with_name(CONFIG_FILE)
    our_name = naming_of(found.state)
    channels = _channels_of(state)
    return Checkpoint(
        path=path,
        digest=_digest(path),
        state=state,
        classes=classes_from_hub(config, config_path) if classes.labels is None else classes,
        names={ours: name for name in found.state if (ours := our_name(name)) is not None},
        weights_kind=found.kind,
        has_both=found.has_both,
        input=either(
            stated_input(words, channels, path),
            stated_input({"config": config}, channels, config_path),
        ),
    )


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop what no network has and translate the authors' names into ours.

    Raises:
        WeightsError: if two entries are the same parameter.
    """
    our_name = naming_of(state)
    result: dict[str, Tensor] = {}
    names: dict[str, str] = {}
    for official, tensor in state.items():
        name = our_name(official)
        if name in result:
            raise WeightsError(f"holds one entry twice: {listed([names[name], official])}.")
        if name is not None:
            result[name], names[name] = tensor, official
    return result


def load_strictly(network: nn.Module, checkpoint: Checkpoint) -> None:
    """Copy a checkpoint into a network that has exactly the same parameters.

    Raises:
        CheckpointError: as ``check_fit``, or for values that are not finite.
    """
    check_fit(network, checkpoint)
    broken = sorted(
        checkpoint.name_of(name)
        for name, tensor in checkpoint.state.items()
        if not tensor.float().isfinite().all()  # as it will be in the network
    )
    if broken:
        raise CheckpointError(
            f"{checkpoint.path} holds values that are not finite, as after a training that "
            f"diverged, in {len(broken)} entries: {listed(broken)}."
        )
    network.load_state_dict(checkpoint.state, strict=False)


def check_fit(network: nn.Module, checkpoint: Checkpoint) -> None:
    """Compare a checkpoint's entries with a network's, which may be on the device "meta".

    Raises:
        CheckpointError: listing every missing, unexpected, wrongly shaped and unusable entry.
    """
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    found = {name: tensor.shape for name, tensor in checkpoint.state.items()}
    name_in_file = official_naming_of(expected) if checkpoint.is_official else str
    missing = sorted(map(name_in_file, _without_counters(expected.keys() - found.keys())))
    unexpected = sorted(map(checkpoint.name_of, _without_counters(found.keys() - expected.keys())))
    misshapen = [
        f"{checkpoint.name_of(name)} is {tuple(found[name])}, not {tuple(expected[name])}"
        for name in sorted(expected.keys() & found.keys())
        if found[name] != expected[name]
    ]
    unusable = sorted(
        checkpoint.name_of(name)
        for name, tensor in checkpoint.state.items()
        if tensor.is_sparse or not (tensor.is_floating_point() or _is_counter(name))
    )
    problems = [
        f"{len(names)} {kind}: {listed(names)}"
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
        refuse_folded(checkpoint)
        guess = f"It looks like {found_backbone}{f', not {backbone}' if backbone else ''}. "
        found_kind, kind = map(kind_of, (checkpoint.state, network.state_dict()))
        raise CheckpointError(
            f"{checkpoint.path} does not fit the network. "
            + (guess if found_backbone not in {None, backbone} else "")
            + (OWN_SHAPE if found_backbone is None and misshapen else "")
            + (f"Its kind is {found_kind}, not {kind}. " if found_kind not in {None, kind} else "")
            + "; ".join(problems)
        )


def kind_of(names: Iterable[str]) -> NetworkKind | None:
    """Tell what is built on a backbone by our names of a network's entries; None if unknown."""
    heads = [name for name in names if name.startswith(("head.", "rpn.", "roi_heads."))]
    if any(name.startswith(("rpn.", "roi_heads.")) for name in heads):
        cascade = any(name.startswith("roi_heads.box_heads.1.") for name in heads)
        return "cascade_mask_rcnn" if cascade else "mask_rcnn"
    if any(name.startswith("head.bottleneck.") for name in heads):
        return "upernet"
    return "classifier" if any(name.startswith("head.project.") for name in heads) else None


def refuse_folded(checkpoint: Checkpoint) -> None:
    """Refuse the state of a folded network.

    Raises:
        CheckpointError: saying how to save a network.
    """
    if "backbone.downsample2.weight" in checkpoint.state:
        raise CheckpointError(
            f"{checkpoint.path} is the state of a folded network, which has no norms left and "
            "is for inference only: save that of create_model(..., fused=False)."
        )


def _refuse_partitioned(state: dict[str, Tensor]) -> None:
    """Refuse a network whose parameters are in the files of several ranks.

    Source: ``zero_to_fp32.py`` of https://github.com/deepspeedai/DeepSpeed.
    """
    empty = [name for name, tensor in state.items() if not tensor.numel()]
    if 2 * len(empty) > len(state):
        raise WeightsError(
            f"holds {len(empty)} entries without values, as DeepSpeed's ZeRO-3 leaves them: "
            f"{listed(empty)}. Gather them first, with its zero_to_fp32.py."
        )


def _without_counters(names: Iterable[str]) -> Iterator[str]:
    return (name for name in names if not _is_counter(name))


def _is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")


def _backbone_of(state: dict[str, Tensor]) -> str | None:
    """Identify the variant by the widths of its stages, all different; None if unknown."""
    convolutions = [state.get(f"backbone.downsample{stage}.conv.weight") for stage in (2, 3)]
    widths = [weight.shape[0] for weight in convolutions if weight is not None and weight.ndim]
    names = (name for name, config in BACKBONES.items() if [*config.channels[1:3]] == widths)
    return next(names, None)


def _channels_of(state: dict[str, Tensor]) -> int | None:
    """Return the number of channels of the network's input, if its first convolution is there."""
    weight = state.get("backbone.stem.layers.0.conv.weight")
    return None if weight is None or weight.ndim != 4 else weight.shape[1]


def _read_safetensors(path: Path, ema: bool) -> tuple[FoundWeights[Tensor], ClassTable, Any]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        found = find_weights(load_file(path), Tensor, ema=ema)
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is no intact safetensors file: {error}") from error
    return found, classes_from_metadata(metadata), {"args": metadata}


def _read_torch_file(path: Path, ema: bool) -> tuple[FoundWeights[Tensor], ClassTable, Any]:
    try:
        file = read_torch_file(path)
        found = find_weights(file.contents, StoredTensor, ema=ema)
        state = {name: file.tensor(stored) for name, stored in found.state.items()}
    except (TorchFileError, OSError) as error:
        raise CheckpointError(f"{path} is truncated or no PyTorch checkpoint: {error}.") from error
    tensors = FoundWeights(state, found.kind, found.has_both)
    return tensors, classes_from_meta(file.contents), file.contents


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Whether results were made by the model that a command names, told without loading it.

A model follows from the words that state it, the files that they name, and this program's release.
Where all of them are those that results were made with, the results say what the model is. Where
they are not, or cannot be compared here, it has to be loaded: it may be the same one all the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from model.checkpoints.demo_weights import demo_weights
from model.checkpoints.file_kind import weights_file_in
from model.checkpoints.hub_config import CONFIG_FILE
from model.pretrained.assets import PRETRAINED
from model.pretrained.records import sha256_of, weights_folder, weights_path
from model.remote.addresses import is_address, parse_address
from service.commands.batch.folder import OutputFolder
from service.commands.batch.identity import STATED, facts_of
from service.release import release
from service.settings import ModelSpec, Settings

WORDS = ("demo", PRETRAINED, "random")
"""Weights that are no path."""


def stated_digest(spec: ModelSpec) -> str:
    """Return a digest of all that states a model, except its weights' contents."""
    words = asdict(spec) | {"backbone": dict(spec.backbone), "release": release()}
    for name in ("blames", "default"):
        del words[name]
    words["labels"] = None if spec.labels is None else _digest(spec.labels)
    if spec.weights not in WORDS and not is_address(spec.weights):
        # What a hub states of classes and input.
        words["config"] = _digest(_file_of(spec.weights).with_name(CONFIG_FILE))
    return hashlib.sha256(json.dumps(words, sort_keys=True, default=str).encode()).hexdigest()


def known_model(
    folder: OutputFolder, names: Sequence[str], spec: ModelSpec, settings: Settings
) -> dict[str, Any] | None:
    """Return a model as the results' identity has it, if they are of the one that is stated.

    Args:
        folder: that has the results.
        names: of finished files in it.
        spec: the model as it is stated now.
        settings: of the precision and the folder of weights.
    """
    stated = stated_digest(spec)
    for name in names:
        facts = facts_of(folder, name)
        if facts is None or "model" not in facts or facts.get(STATED) != stated:
            continue
        model: dict[str, Any] = facts["model"]
        same = settings.dtype in {"auto", model["dtype"]} and _has_weights(spec, settings, model)
        return model if same else None
    return None


def _has_weights(spec: ModelSpec, settings: Settings, model: dict[str, Any]) -> bool:
    """Tell whether weights are those of a model of results."""
    digest: str | None = model["weights_sha256"]
    if spec.weights == "random":
        return digest is None
    if is_address(spec.weights):
        # A pinned address never means another file; others have to be looked up.
        address = parse_address(spec.weights)
        return address.is_pinned and str(address) == str(model["weights_source"])
    return _weights_sha256(spec, settings) == digest


def _weights_sha256(spec: ModelSpec, settings: Settings) -> str | None:
    if spec.weights == "demo":
        with demo_weights(spec.task) as path:
            return _digest(path)
    if spec.weights == PRETRAINED and spec.architecture is not None:
        return _digest(weights_path(spec.architecture, weights_folder(settings.cache_folder)))
    return _digest(_file_of(spec.weights))


def _file_of(weights: str) -> Path:
    try:
        return weights_file_in(Path(weights))
    except OSError:
        return Path(weights)


def _digest(path: Path) -> str | None:
    try:
        return sha256_of(path)
    except OSError:
        return None

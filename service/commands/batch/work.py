"""What a run does to the images, as the options say."""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from pathlib import Path

from model.remote.addresses import is_address
from service.commands.batch.actors import BatchWork, MakeNetwork
from service.commands.batch.arguments import CPU_BATCH_SIZE, GPU_BATCH_SIZE
from service.commands.batch.known_model import WORDS
from service.commands.batch.machines import gpus_of
from service.commands.console.exits import RefusedError
from service.commands.predict.conversion import checked_count, request_of, settings_of
from service.settings import ModelSpec


def work_of(arguments: argparse.Namespace, make_network: MakeNetwork) -> tuple[BatchWork, int]:
    """Return what is done to the images, and how many GPUs of this machine do it.

    Args:
        arguments: parsed.
        make_network: loads the network.

    Raises:
        RefusedError: if an option, a variable or the models file is wrong, or a GPU is missing.
    """
    request = request_of(arguments)
    try:
        settings, spec = settings_of(arguments)
    except RefusedError as error:
        raise RefusedError(re.sub(r"--device\b", "--devices", str(error))) from error
    checked_count(arguments.decoders, 1, "decoders")
    if arguments.ray is not None:
        spec = _found_anywhere(spec)
    gpus = gpus_of(settings.devices) if arguments.ray is None else 0
    default = GPU_BATCH_SIZE if gpus else CPU_BATCH_SIZE
    batch_size = checked_count(arguments.batch_size, default, "batch_size")
    return BatchWork(settings, spec, request, batch_size, make_network=make_network), gpus


def _found_anywhere(spec: ModelSpec) -> ModelSpec:
    """Make a model's paths absolute: a cluster's processes work in other folders."""
    weights, labels = spec.weights, spec.labels
    if weights not in WORDS and not is_address(weights):
        weights = str(Path(weights).absolute())
    return replace(spec, weights=weights, labels=None if labels is None else labels.absolute())

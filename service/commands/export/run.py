"""Export a network: load it, trace it, write it, run the file, and only then give it its name.

Standard output gets what was written, standard error the progress and error messages.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch.export import ExportedProgram

from model.config import ClassificationGeometry, Task
from model.evaluation.images import read_image
from model.export.comparison import (
    BATCHES,
    Run,
    expected_logits,
    largest_difference,
    limit_of,
    sample_images,
)
from model.export.metadata import metadata_of
from model.export.program import traced
from model.export.torch_file import TorchFile, write_torch
from model.lowering.portable import make_portable
from model.pretrained.assets import PRETRAINED
from model.pretrained.records import weights_folder
from model.zoo import LoadedModel, load_model
from service.commands.console.exits import DONE, RefusedError, print_error
from service.commands.export.arguments import PROGRAM, Format
from service.commands.export.plan import ExportPlan, Size
from service.engine.descriptions import activation_of, blaming, check_digest, labels_of
from service.release import release
from service.settings import ModelSpec, load_settings


def run(plan: ExportPlan) -> int:
    """Write all files; return the exit code.

    Raises:
        RefusedError: if the weights or the image cannot be read, or a file is not the network's
            function.
    """
    try:
        picture = None if plan.image is None else read_image(plan.image)
        for path, size in plan.files:
            # Loaded anew for each file: the comparison needs the network as it is served.
            _export(plan, path, size, picture)
    except ValueError as error:
        raise RefusedError(str(error)) from error
    return DONE


def _export(plan: ExportPlan, path: Path, size: Size | None, picture: Image.Image | None) -> None:
    """Write one file; if it is not the same function, leave nothing."""
    started = time.monotonic()
    print_error(f"loading {plan.spec.name}", PROGRAM)
    loaded = _load(plan)
    geometry = loaded.input.geometry
    if isinstance(geometry, ClassificationGeometry):
        size = geometry.crop_size, geometry.crop_size
    assert size is not None, "a segmenter has one"
    metadata = metadata_of(plan.spec.name, loaded, _activation(plan.spec, loaded), size)
    images = sample_images(loaded.input, size, picture)
    expected = expected_logits(loaded.network, images)
    print_error("tracing the network", PROGRAM)
    program = traced(make_portable(loaded.network), loaded.input.channels, size)
    try:
        kind, difference = _checked(plan.form, program, metadata, images, expected, path)
    except OSError as error:
        raise RefusedError(f"{path} cannot be written: {error.strerror or error}.") from error
    compared = "drawn scenes" if plan.image is None else f"{plan.image} and drawn scenes"
    sys.stdout.write(
        f"{path}: {path.stat().st_size} bytes, {kind}\n"
        f"  input   images  float32 (batch, {_shape(images)})\n"
        f"  output  logits  float32 (batch, {_shape(expected)})\n"
        f"  compared with the network that is served, in float32, on {compared}, "
        f"{_numbers(BATCHES)} at a time\n"
        f"  largest difference of a logit: {difference:.1e} (limit: {limit_of(expected):.0e}; "
        f"largest logit: {abs(expected).max():.1f})\n"
        f"  {time.monotonic() - started:.0f} s\n"
    )
    sys.stdout.flush()


def _checked(
    form: Format,
    program: ExportedProgram,
    metadata: dict[str, str],
    images: NDArray[np.float32],
    expected: NDArray[np.float32],
    path: Path,
) -> tuple[str, float]:
    """Write a file, run it, and give it its name; return what it is, and the largest difference."""
    with tempfile.TemporaryDirectory(prefix=".overlock-export-", dir=path.parent) as folder:
        unnamed = Path(folder) / path.name
        kind, file = _write(form, program, metadata, unnamed)
        print_error(f"running the file on {_numbers(BATCHES)} images", PROGRAM)
        try:
            difference = largest_difference(file, images, expected)
        except ValueError as error:
            raise RefusedError(f"{path} is not written: {error}.") from error
        unnamed.replace(path)
    return kind, difference


def _load(plan: ExportPlan) -> LoadedModel:
    spec, folder = plan.spec, plan.cache_folder
    if folder is None and spec.weights == PRETRAINED:
        folder = load_settings().cache_folder
    with blaming(spec.blame("weights"), spec):
        loaded = load_model(
            spec.network,
            weights=spec.weights,
            task=spec.task,
            kind=spec.kind,
            pretrained_folder=folder and weights_folder(folder),
            ema=spec.ema,
            input_options=spec.input,
        )
    check_digest(spec, loaded)
    with blaming(spec.blame("labels")):
        return replace(loaded, labels=labels_of(loaded, spec.task, spec.labels))


def _activation(spec: ModelSpec, loaded: LoadedModel) -> str:
    """Return what makes answers of logits."""
    outputs = loaded.network.num_classes
    if spec.task is Task.CLASSIFY:
        with blaming(spec.blame("activation")):
            return activation_of(spec.activation, outputs)
    return "sigmoid" if outputs == 1 else "argmax"


def _write(
    form: Format, program: ExportedProgram, metadata: dict[str, str], path: Path
) -> tuple[str, Run]:
    """Write a file; return what it is, and the file in its runtime."""
    if form == "torch":
        print_error("writing the file", PROGRAM)
        write_torch(program, metadata, path)
        return "torch.export", TorchFile(path)
    print_error("converting to ONNX, which takes up to a minute", PROGRAM)
    # Of the extra: a file of torch.export needs none of its packages.
    onnx_file = import_module("model.export.onnx_file")
    onnx_file.write_onnx(program, metadata, path, producer_version=release())
    return f"ONNX opset {onnx_file.OPSET}", onnx_file.OnnxFile(path)


def _shape(batch: NDArray[np.float32]) -> str:
    return ", ".join(map(str, batch.shape[1:]))


def _numbers(values: tuple[int, ...]) -> str:
    *first, last = map(str, values)
    return f"{', '.join(first)} and {last}"

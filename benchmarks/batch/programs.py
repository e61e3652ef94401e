"""The programs that are measured, each in a process of its own.

python -m benchmarks.batch.programs batch|predict|loader|decode|network DEVICE PHOTOS TIMES
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.batch.networks import COSTS, network_of, note, wait
from model.config import CLASSIFIERS, IMAGE_MEAN, IMAGE_STD
from model.images.preprocess import resized_size
from model.lowering.cpu import lower_for_cpu
from model.zoo import create_model
from service.commands.batch.arguments import fill_parser
from service.commands.batch.run import run
from service.commands.predict import __main__ as predict_command
from service.commands.predict import local
from service.commands.predict.conversion import request_of, settings_of
from service.commands.predict.passes import WaitingInput
from service.images.preparation import ImagePreparer
from service.settings import Settings
from support.service_fakes import CLASSIFIER

MODEL = "overlock_t"
BATCH_SIZE = 8
OPTIONS = ["--model", MODEL, "--weights", "random", "--dtype", "float32"]
OPTIONS += ["--batch-size", str(BATCH_SIZE)]
MEAN = torch.tensor(IMAGE_MEAN).view(3, 1, 1)
STD = torch.tensor(IMAGE_STD).view(3, 1, 1)
CORES = len(os.sched_getaffinity(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", choices=list(PROGRAMS))
    parser.add_argument("device")
    parser.add_argument("photos", type=Path)
    parser.add_argument("times", type=Path)
    arguments = parser.parse_args()
    PROGRAMS[arguments.program](arguments.device, arguments.photos, arguments.times)


def batch(device: str, photos: Path, times: Path) -> None:
    """Run ``overlock batch``."""
    with tempfile.TemporaryDirectory() as output:
        words = ["classify", str(photos), "--output", output, "--devices", "cpu", *OPTIONS]
        parser = argparse.ArgumentParser()
        fill_parser(parser)
        code = run(parser.parse_args(words), network_of(device, times))
    sys.stdout.flush()
    os._exit(code)  # as the command does: Ray's threads would be waited for


def predict(device: str, photos: Path, times: Path) -> None:
    """Run ``overlock predict`` with lines of JSON."""
    words = ["predict", "classify", str(photos), "--json", "--device", "cpu", *OPTIONS]
    with (
        patch.object(local, "LocalNetwork", network_of(device, times)),
        patch.object(sys, "argv", words),
        contextlib.redirect_stdout(StringIO()),
    ):
        predict_command.main()


class Photos(Dataset[tuple[str, Tensor]]):
    """The photographs as a researcher reads them, with timm's transform for evaluation."""

    def __init__(self, folder: Path) -> None:
        self._files = sorted(folder.iterdir())
        self._geometry = CLASSIFIERS[MODEL].geometry

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[str, Tensor]:
        image = Image.open(self._files[index]).convert("RGB")
        size = resized_size(image.width, image.height, self._geometry.resize_short_side)
        image = image.resize(size, Image.Resampling.BICUBIC)
        crop = self._geometry.crop_size
        left, top = (image.width - crop) // 2, (image.height - crop) // 2
        image = image.crop((left, top, left + crop, top + crop))
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
        return str(self._files[index]), (pixels - MEAN) / STD


@torch.inference_mode()
def loader(device: str, photos: Path, times: Path) -> None:
    """Run the loop of a researcher: a DataLoader with a worker a core, one Parquet file."""
    network, cost = _plain_network(device), COSTS.get(device)
    found: dict[str, list[object]] = {"path": [], "class_id": [], "score": []}
    with times.open("a", buffering=1) as file, tempfile.TemporaryDirectory() as output:
        for paths, images in DataLoader(Photos(photos), BATCH_SIZE, num_workers=CORES):
            started = time.perf_counter()
            logits = network(images)
            if cost is not None:
                wait(started, cost, len(paths))
            top = logits.softmax(dim=1).topk(min(5, logits.shape[1]))
            found["path"] += paths
            found["class_id"] += top.indices.tolist()
            found["score"] += top.values.tolist()
            note(file, len(paths))
        pq.write_table(pa.table(found), Path(output, "found.parquet"))


def _plain_network(device: str) -> torch.nn.Module:
    if device in COSTS:
        return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())
    network = create_model(MODEL, weights="random").eval()
    return lower_for_cpu(network, torch.float32)


def decode(_: str, photos: Path, times: Path) -> None:
    """Read and decode alone, on one thread."""
    preparer = ImagePreparer(Settings())
    with times.open("a", buffering=1) as file:
        for number, path in enumerate(sorted(photos.iterdir()), 1):
            preparer.prepare(path.read_bytes(), None, CLASSIFIER)
            if number % BATCH_SIZE == 0:
                note(file, BATCH_SIZE)


def network(device: str, photos: Path, times: Path) -> None:
    """Run the device alone, on a third as many images as there are photographs."""
    words = ["classify", str(photos), "--output", "none", "--devices", "cpu", *OPTIONS]
    parser = argparse.ArgumentParser()
    fill_parser(parser)
    arguments = parser.parse_args(words)
    settings, spec = settings_of(arguments)
    watched = network_of(device, times)(settings, spec, request_of(arguments), BATCH_SIZE)
    files = sorted(photos.iterdir())
    preparer = ImagePreparer(settings)
    prepared = [preparer.prepare(f.read_bytes(), None, watched.model) for f in files[:BATCH_SIZE]]
    for _ in range(len(files) // BATCH_SIZE // 3):
        watched.run([WaitingInput(each.network_input, time.perf_counter()) for each in prepared])


PROGRAMS = {
    "batch": batch,
    "predict": predict,
    "loader": loader,
    "decode": decode,
    "network": network,
}

if __name__ == "__main__":
    main()

"""A small file that stands for the authors' published weights."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from torch import Tensor

from model.config import CLASSIFIERS
from model.heads.classifier import ImageClassifier
from support.filled import filled

FILE = "nano.pth"
KEPT = {"demo.safetensors", "demo.json", "demo.lock"}


def saved(state: dict[str, Tensor]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def nano(classes: int = 1000) -> ImageClassifier:
    return filled(ImageClassifier(CLASSIFIERS["demo"].backbone, classes), torch.float32)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}

"""Files of ``torch.export``, which PyTorch runs without this package."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram

METADATA_FILE = "metadata.json"
"""Name among the extra files of ``torch.export.load``."""


def write_torch(program: ExportedProgram, metadata: Mapping[str, str], path: Path) -> None:
    """Write a traced network with its weights.

    Args:
        program: see ``model.export.program``.
        metadata: for the file's extra file ``metadata.json``, a JSON object of texts.
        path: of the file, which ends with .pt2.

    Raises:
        OSError: if it cannot be written.
    """
    # In memory first: where PyTorch's own writer finds no space, it ends the process.
    contents = io.BytesIO()
    torch.export.save(program, contents, extra_files={METADATA_FILE: json.dumps(dict(metadata))})
    path.write_bytes(contents.getbuffer())


class TorchFile:
    """A file of ``torch.export`` in PyTorch, on the CPU.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._network = torch.export.load(path).module()

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute logits, (B, ...), of images (B, C, H, W)."""
        with torch.no_grad():
            logits: torch.Tensor = self._network(torch.from_numpy(images))
        return logits.numpy()

"""Outputs of the trained networks on the CPU, to compare a GPU's with.

    python -m benchmarks.on_gpu.references

computes them, in about a minute on two cores, and writes them as float16 to
``benchmarks/carried/references.npz`` (6.5 MB, not in git). Copy that file to the same place on
the GPU machine, where computing them would take time of the benchmark; what it lacks is computed
there.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.on_gpu.bench import CARRIED
from benchmarks.on_gpu.networks import images_of, trained
from model.heads.mask_rcnn import MaskRCNN

REFERENCES = CARRIED / "references.npz"

Case = tuple[str, int, tuple[int, int]]
"""A network's name, the number of images, and their height and width."""

CASES: tuple[Case, ...] = (
    ("overlock_t", 4, (224, 224)),
    ("upernet_overlock_t", 1, (256, 320)),
    ("mask_rcnn_overlock_t", 1, (320, 416)),
    ("overlock_t", 2, (96, 160)),  # maps smaller than the window
    ("overlock_xt", 4, (224, 224)),
    ("overlock_s", 4, (224, 224)),
    ("overlock_b", 4, (224, 224)),
)

SAME_PRINT = 1e-5
"""Largest relative difference of two fingerprints of the same weights and images: processors round
their sums differently."""


def outputs(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Return a network's logits, or the levels of a detector's pyramid."""
    with torch.inference_mode():
        if not isinstance(network, MaskRCNN):
            return {"logits": network(images)}
        pyramid = network.neck(network.backbone.dense_features(images))
        return {f"level {number}": level for number, level in enumerate(pyramid)}


def reference(case: Case, file: Path = REFERENCES) -> tuple[dict[str, Tensor], str]:
    """Return a case's outputs on the CPU, and whether they were "carried" or "computed"."""
    carried = _carried(case, file)
    if carried:
        return carried, "carried"
    name, batch, size = case
    images = images_of(torch.device("cpu"), batch, size, torch.float32).contiguous()
    return outputs(trained(name), images), "computed"


def _carried(case: Case, file: Path) -> dict[str, Tensor]:
    """Return a case's outputs in the file, or none if it lacks them or holds other weights'."""
    if not file.exists():
        return {}
    with np.load(file) as arrays:
        prefix = f"{_key(case)}/"
        found = {
            name.removeprefix(prefix): torch.from_numpy(arrays[name])
            for name in arrays.files
            if name.startswith(prefix)
        }
    print_of_file = found.pop("fingerprint", None)
    if print_of_file is None:
        return {}
    same = torch.allclose(print_of_file, _fingerprint(case), rtol=SAME_PRINT, atol=0)
    return found if same else {}


def _key(case: Case) -> str:
    name, batch, (height, width) = case
    return f"{name} {batch}x{height}x{width}"


def _fingerprint(case: Case) -> Tensor:
    """Return the sums of the absolute weights and of the absolute images, (2,) float64."""
    name, batch, size = case
    weights = [entry.double().abs().sum() for entry in trained(name).state_dict().values()]
    images = images_of(torch.device("cpu"), batch, size, torch.float32)
    return torch.stack([torch.stack(weights).sum(), images.double().abs().sum()])


def write(cases: tuple[Case, ...] = CASES, file: Path = REFERENCES) -> None:
    """Compute the cases' outputs and write them to a file."""
    arrays = {}
    for case in cases:
        computed, _ = reference(case, file.with_name("none"))
        for what, output in (computed | {"fingerprint": _fingerprint(case)}).items():
            short = output if what == "fingerprint" else output.half()
            arrays[f"{_key(case)}/{what}"] = short.numpy()
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


if __name__ == "__main__":
    write()

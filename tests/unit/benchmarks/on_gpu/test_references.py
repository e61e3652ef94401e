from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.on_gpu.bench import relative_error
from benchmarks.on_gpu.references import Case, reference, write

CASES: tuple[Case, ...] = (("nano", 2, (64, 64)), ("mask_rcnn_nano", 1, (64, 64)))


@pytest.mark.slow
def test_carried_outputs_are_the_computed_ones(tmp_path: Path) -> None:
    file = tmp_path / "references.npz"
    for case in CASES:
        assert reference(case, file)[1] == "computed"
    write(CASES, file)
    for case in CASES:
        (want, _), (got, source) = reference(case, tmp_path / "none"), reference(case, file)
        assert source == "carried"
        assert got.keys() == want.keys()
        for what, output in got.items():
            assert output.dtype == torch.float16
            assert relative_error(output, want[what]) < 1e-3  # float16 keeps 11 significant bits


def test_outputs_of_other_weights_are_not_used(tmp_path: Path) -> None:
    file = tmp_path / "references.npz"
    write(CASES[:1], file)
    with np.load(file) as arrays:
        kept = dict(arrays)
    name = next(name for name in kept if name.endswith("fingerprint"))
    np.savez(file, **(kept | {name: kept[name] * 1.01}))
    assert reference(CASES[0], file)[1] == "computed"

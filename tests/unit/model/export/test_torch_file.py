"""A file of torch.export is run by PyTorch alone."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from model.export.torch_file import METADATA_FILE, TorchFile, write_torch
from support.exported import METADATA, small_program, some_images

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[4]

WITHOUT_THIS_PACKAGE = """
import sys
import numpy, torch
for name in ("model", "service"):
    sys.modules[name] = None  # an import of it fails
network = torch.export.load(sys.argv[1]).module()
with torch.no_grad():
    numpy.save(sys.argv[3], network(torch.from_numpy(numpy.load(sys.argv[2]))).numpy())
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("torch") / "small.pt2"
    write_torch(small_program()[0], METADATA, path)
    return path


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_a_file_takes_any_number_of_images(path: Path, batch: int) -> None:
    expected = small_program()[1][:batch]
    # float32: sums in another order, of logits near 1
    np.testing.assert_allclose(TorchFile(path)(some_images()[:batch]), expected, rtol=0, atol=1e-5)


def test_a_file_runs_where_this_package_is_not(path: Path, tmp_path: Path) -> None:
    images, logits = tmp_path / "images.npy", tmp_path / "logits.npy"
    np.save(images, some_images())
    command = [sys.executable, "-P", "-c", WITHOUT_THIS_PACKAGE]
    subprocess.run([*command, path, images, logits], check=True, cwd=tmp_path)
    # float32: sums in another order, of logits near 1
    np.testing.assert_allclose(np.load(logits), small_program()[1], rtol=0, atol=1e-5)


def test_a_full_disk_is_an_error_of_the_system(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_torch(small_program()[0], METADATA, tmp_path / "small.pt2")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_the_metadata_is_an_extra_file(path: Path) -> None:
    extra = {METADATA_FILE: ""}
    torch.export.load(path, extra_files=extra)
    assert json.loads(extra[METADATA_FILE]) == METADATA


def test_a_file_tells_nothing_of_the_machine_that_wrote_it(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        contents = b"".join(archive.read(name) for name in archive.namelist())
    for secret in (str(ROOT), "site-packages", "model.backbone"):
        assert secret.encode() not in contents

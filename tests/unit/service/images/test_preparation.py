"""A worker that resizes in Pillow says so when it starts, and why."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.kernels.cpu import library
from service.images.preparation import ImagePreparer
from service.settings import Settings
from support.native_kernels import forget
from support.service_fakes import CLASSIFIER


@pytest.fixture(autouse=True)
def nothing_loaded() -> Iterator[None]:
    forget()
    yield
    forget()


def png() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_without_a_compiler_pillow_makes_the_same_bits_and_the_log_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(cache_dir=tmp_path)
    want = ImagePreparer(settings).prepare(png(), None, CLASSIFIER).network_input.pixels
    if library.cpu_kernels_unsupported_reason() is not None:
        pytest.skip(f"Nothing to compare with: {library.cpu_kernels_unsupported_reason()}")
    assert caplog.records == []
    forget()
    monkeypatch.setenv("PATH", "/nowhere")
    decoding = ImagePreparer(settings)
    got = decoding.prepare(png(), None, CLASSIFIER).network_input.pixels
    assert np.array_equal(got, want)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        "Images to classify are resized by Pillow, at a tenth of the speed, since there is no C "
        "compiler (looked for cc, gcc, clang)."
    )


def test_the_kernel_is_kept_in_the_cache_folder_before_there_is_a_request(tmp_path: Path) -> None:
    ImagePreparer(Settings(cache_dir=tmp_path))
    if library.cpu_kernels_unsupported_reason() is not None:
        pytest.skip(f"Nothing is compiled: {library.cpu_kernels_unsupported_reason()}")
    assert [kept.suffix for kept in (tmp_path / "kernels").iterdir()] == [".so"]

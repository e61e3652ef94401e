"""The command as a function: real demo networks."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from model.export.onnx_file import OnnxFile
from model.export.torch_file import TorchFile
from model.scenes.scenes import draw_scene
from model.zoo import create_model
from service.commands.export import __main__, run

DEMO = ("demo", "--weights", "demo")
SEGMENTER = ("demo", "--task", "segment", "--weights", "demo")

Export = Callable[..., int]


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> Iterator[Export]:
    """Call the command and return its exit code."""
    handler = signal.getsignal(signal.SIGTERM)

    def call(*arguments: str | Path) -> int:
        monkeypatch.setattr(sys, "argv", ["export", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            __main__.main()
        assert isinstance(exit_.value.code, int)
        return exit_.value.code

    yield call
    signal.signal(signal.SIGTERM, handler)


def noise(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def logits(task: str, images: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.no_grad():
        found: torch.Tensor = create_model("demo", weights="demo", task=task)(
            torch.from_numpy(images)
        )
    return found.numpy()


@pytest.mark.slow
def test_a_segmenter_of_torch_is_the_same_function(
    exported: Export, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "demo.pt2"
    assert exported("torch", *SEGMENTER, "--size", "64x96", "-o", path) == 0
    images = noise(4, 3, 64, 96)
    # float32: sums in another order, of logits near 10
    np.testing.assert_allclose(
        TorchFile(path)(images), logits("segment", images), rtol=0, atol=1e-4
    )
    out = capsys.readouterr().out
    assert out.startswith(f"{path}: {path.stat().st_size} bytes, torch.export\n")
    assert "input   images  float32 (batch, 3, 64, 96)\n" in out
    assert "output  logits  float32 (batch, 11, 16, 24)\n" in out


@pytest.mark.slow
def test_a_segmenter_of_onnx_is_compared_on_a_photograph(
    exported: Export, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo, path = tmp_path / "photo.png", tmp_path / "demo.onnx"
    Image.fromarray(draw_scene(1, 90, 120).image).save(photo)
    path.write_bytes(b"an older one")
    words = (*SEGMENTER, "--size", "64x96", "--image", photo, "-o", path)
    assert exported("onnx", *words) == 0
    assert sorted(tmp_path.iterdir()) == [path, photo]
    images = noise(2, 3, 64, 96)
    # float32: sums in another order, of logits near 10
    np.testing.assert_allclose(OnnxFile(path)(images), logits("segment", images), rtol=0, atol=1e-4)
    output = capsys.readouterr()
    assert f"in float32, on {photo} and drawn scenes, 1, 2 and 3 at a time" in output.out
    assert "overlock export: converting to ONNX, which takes up to a minute\n" in output.err
    metadata = {each.key: each.value for each in onnx.load(path).metadata_props}
    assert (metadata["task"], metadata["activation"]) == ("segment", "argmax")


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """Write metadata alone, without tracing; files compute what the demo does. Return what came."""
    found: list[dict[str, str]] = []

    def write(_: object, metadata: dict[str, str], path: Path) -> None:
        found.append(metadata)
        path.write_text(json.dumps(metadata))

    monkeypatch.setattr(run, "traced", lambda *_: None)
    monkeypatch.setattr(run, "write_torch", write)
    monkeypatch.setattr(run, "TorchFile", lambda _: lambda images: logits("classify", images))
    return found


def test_a_model_of_a_models_file_has_its_name_labels_and_input(
    exported: Export, tmp_path: Path, written: list[dict[str, str]]
) -> None:
    (tmp_path / "shapes.txt").write_text("".join(f"shape {n}\n" for n in range(10)))
    models = tmp_path / "models.toml"
    models.write_text(
        '[shapes]\narchitecture = "demo"\nlabels = "shapes.txt"\ninput_size = 96\n'
        'activation = "sigmoid"\n'
    )
    path = tmp_path / "shapes.pt2"
    assert exported("torch", "shapes", "--models-file", models, "-o", path) == 0
    (metadata,) = written
    assert (metadata["model"], metadata["architecture"]) == ("shapes", "demo")
    assert metadata["activation"] == "sigmoid"
    assert json.loads(metadata["labels"])[9] == "shape 9"
    assert json.loads(metadata["preprocessing"])["height"] == 96


def test_a_file_replaces_an_older_one_and_nothing_else_is_left(
    exported: Export, tmp_path: Path, written: list[dict[str, str]]
) -> None:
    path = tmp_path / "demo.pt2"
    path.write_bytes(b"an older one")
    assert exported("torch", *DEMO, "-o", path) == 0
    assert json.loads(path.read_text()) == written[0]
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_left_of_a_file_that_computes_something_else(
    exported: Export,
    tmp_path: Path,
    written: list[dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "demo.pt2"
    path.write_bytes(b"an older one")
    monkeypatch.setattr(
        run, "TorchFile", lambda _: lambda images: logits("classify", images) + 2e-4
    )
    assert exported("torch", *DEMO, "-o", path) == 2
    error = capsys.readouterr().err
    assert f"{path} is not written: the file's logits differ by 2.0e-04 from the network's" in error
    assert len(written) == 1
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"an older one"


def test_nothing_is_left_of_a_file_on_a_full_disk(
    exported: Export,
    tmp_path: Path,
    written: list[dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def write(_: object, __: object, path: Path) -> None:
        path.write_bytes(b"a part")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run, "write_torch", write)
    path = tmp_path / "demo.pt2"
    assert exported("torch", *DEMO, "-o", path) == 2
    assert f"{path} cannot be written: No space left on device.\n" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_a_file_after_sigterm(
    exported: Export,
    tmp_path: Path,
    written: list[dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def write(_: object, __: object, path: Path) -> None:
        path.write_bytes(b"a part")
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(run, "write_torch", write)
    assert exported("torch", *DEMO, "-o", tmp_path / "demo.pt2") == 143
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("overlock_t", "--weights", "no.pth"), "--weights: There is no weights file no.pth"),
        (
            ("overlock_t", "--weights", "demo"),
            "--weights: There are no demo weights for overlock_t",
        ),
        ((*DEMO, "--mean", "0.5"), "--mean: mean states 1 channel; the network's input has 3."),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_a_sentence(
    words: tuple[str, ...],
    message: str,
    exported: Export,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert exported("torch", *words, "-o", tmp_path / "x.pt2") == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []

"""What is exported, and what is refused before torch is loaded."""

from __future__ import annotations

import argparse
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import pytest

from model.config import Task
from service.commands.console.exits import RefusedError
from service.commands.export import plan
from service.commands.export.arguments import fill_parser
from service.commands.export.plan import ExportPlan, plan_of

DEMO = ("demo", "--weights", "demo")
SEGMENTER = ("demo", "--task", "segment", "--weights", "demo")


def planned(*words: str | Path) -> ExportPlan:
    parser = argparse.ArgumentParser()
    fill_parser(parser)
    return plan_of(parser.parse_args([str(word) for word in words]))


def models_file(folder: Path) -> Path:
    path = folder / "models.toml"
    path.write_text(
        '[shapes]\narchitecture = "demo"\nactivation = "sigmoid"\n'
        '[own]\nkind = "upernet"\nweights = "own.pth"\n[own.backbone]\n'
        '[boxes]\narchitecture = "mask_rcnn_overlock_t"\nweights = "random"\n'
    )
    return path


def test_a_classifiers_file_has_the_size_of_its_input(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    found = planned("onnx", *DEMO, "--crop-pct", "0.9", "-o", path)
    assert found.files == ((path, None),)
    assert (found.spec.task, found.spec.weights) == (Task.CLASSIFY, "demo")
    assert found.spec.input.crop_pct == 0.9


def test_a_segmenter_has_a_file_for_each_size(tmp_path: Path) -> None:
    sizes = ("--size", "512x704", "--size", "704x512", "--size", "512x704")
    found = planned("torch", *SEGMENTER, *sizes, "-o", tmp_path / "x.pt2")
    assert found.files == (
        (tmp_path / "x-512x704.pt2", (512, 704)),
        (tmp_path / "x-704x512.pt2", (704, 512)),
    )


def test_the_file_of_one_size_has_the_name_that_is_given(tmp_path: Path) -> None:
    path = tmp_path / "x.pt2"
    found = planned("torch", *SEGMENTER, "--size", "512x704", "-o", path)
    assert found.files == ((path, (512, 704)),)


def test_a_models_file_states_the_model(tmp_path: Path) -> None:
    words = ("--models-file", models_file(tmp_path), "-o", tmp_path / "x.onnx")
    assert planned("onnx", "shapes", *words).spec.activation == "sigmoid"
    spec = planned("onnx", "own", *words, "--size", "512x704", "--raw").spec
    assert (spec.task, spec.architecture, spec.kind) == (Task.SEGMENT, None, "upernet")
    assert (spec.weights, spec.ema) == (str(tmp_path / "own.pth"), False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("mask_rcnn_overlock_t", "--weights", "random"), "mask_rcnn_overlock_t is a detector: it"),
        (("overlock_x", "--weights", "random"), "no network overlock_x; there are overlock_xt,"),
        (("overlock_t",), "Give --weights of overlock_t: a path, pretrained, random or demo."),
        ((*DEMO, "--size", "64x64"), "--size is for segmenters; a classifier has --input-size."),
        (SEGMENTER, "Give --size: demo is a segmenter, and a file is for one height and width"),
        ((*DEMO, "--crop-pct", "7"), "--crop-pct is 7.0; it is from 0.1 to 1."),
        (
            ("overlock_t", "--task", "segment", "--weights", "random"),
            "--task is segment, but overlock_t can classify.",
        ),
        ((*DEMO, "--image", "no.jpg"), "--image no.jpg: there is no such file."),
    ],
)
def test_options_that_do_not_fit_are_refused(
    words: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    with pytest.raises(RefusedError) as caught:
        planned("onnx", *words, "-o", tmp_path / "x.onnx")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("birds",), "has no model birds; it has shapes, own, boxes."),
        (("boxes",), "boxes is a detector"),
        (("shapes", "--weights", "x"), "--models-file states the models, and their weights too."),
        (("shapes", "--labels", "x"), "--models-file states the models, and their labels too."),
        (("shapes", "--task", "classify"), "--models-file states the models, and their task too."),
    ],
)
def test_what_a_models_file_does_not_state_is_refused(
    words: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    path = models_file(tmp_path)
    with pytest.raises(RefusedError) as caught:
        planned("onnx", *words, "--models-file", path, "-o", tmp_path / "x.onnx")
    assert message in str(caught.value)


def test_a_models_file_that_is_wrong_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"no\.toml cannot be read"):
        planned("onnx", "x", "--models-file", tmp_path / "no.toml", "-o", tmp_path / "x.onnx")


def test_onnx_without_its_packages_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(name: str) -> ModuleSpec | None:
        return None if name == "onnxscript" else find_spec(name)

    monkeypatch.setattr(plan, "find_spec", found)
    with pytest.raises(RefusedError) as caught:
        planned("onnx", *DEMO, "-o", tmp_path / "x.onnx")
    assert str(caught.value) == (
        "overlock export onnx needs onnxscript: install the extra export: "
        "pip install 'overlock-service[export]', or uv tool install 'overlock-service[export]'."
    )
    assert planned("torch", *DEMO, "-o", tmp_path / "x.pt2").form == "torch"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x.pt2", "x.pt2: the file's name has to end with .onnx."),
        ("no/x.onnx", "there is no folder"),
        ("folder.onnx", "folder.onnx is a folder."),
    ],
)
def test_a_file_that_cannot_be_written_is_refused(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(RefusedError) as caught:
        planned("onnx", *DEMO, "-o", tmp_path / name)
    assert message in str(caught.value)

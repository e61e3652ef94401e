from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.zoo import create_model
from service.engine.runner import Normalised, Runner
from service.link.messages import Task
from service.settings import load_settings

SIZES = (1, 2, 4, 8)


def pictures(count: int) -> list[NDArray[np.uint8]]:
    generator = np.random.default_rng(3)
    return [generator.integers(0, 256, (224, 224, 3), np.uint8) for _ in range(count)]


def runner(**settings: str) -> Runner:
    return Runner(load_settings({"classify_weights": "random", **settings}), "cpu", SIZES)


@pytest.mark.parametrize("name", ["demo", "overlock_xt"])
def test_logits_do_not_depend_on_the_batch(name: str) -> None:
    network = Normalised(create_model(name, weights="random"), torch.float32).eval()
    pixels = torch.from_numpy(np.stack(pictures(8)))
    padded = torch.zeros_like(pixels[:4])
    padded[:3] = pixels[:3]
    with torch.inference_mode():
        full = network(pixels)
        alone = torch.cat([network(pixels[index : index + 1]) for index in range(3)])
        with_padding = network(padded)[:3]
    largest = full.abs().max()
    assert (full[:3] - alone).abs().max() <= 1e-5 * largest
    assert (full[:3] - with_padding).abs().max() <= 1e-5 * largest


def test_padding_gets_no_answer() -> None:
    outcome = runner().run(Task.CLASSIFY, pictures(3), 4)
    assert len(outcome.arrays) == 3
    for arrays in outcome.arrays:
        assert arrays is not None
        assert arrays[0].sum() == pytest.approx(1.0, abs=1e-5)
    assert outcome.device_seconds > 0


def test_bfloat16_answers_in_float32() -> None:
    outcome = runner(dtype="bfloat16").run(Task.CLASSIFY, pictures(1), 1)
    assert outcome.arrays[0] is not None
    assert outcome.arrays[0][0].dtype == np.float32


def test_an_output_that_is_not_finite_is_told_apart_from_its_neighbours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    poisoned = runner()
    logits = torch.tensor([[0.0, 1.0], [float("nan"), 1.0], [float("inf"), 1.0], [2.0, 1.0]])
    monkeypatch.setattr(poisoned, "_classifier", lambda _: logits)
    outcome = poisoned.run(Task.CLASSIFY, pictures(4), 4)
    assert [arrays is None for arrays in outcome.arrays] == [False, True, True, False]


def test_warming_up_a_cpu_runs_two_batch_sizes_of_every_model() -> None:
    steps = list(runner().warm_up())
    assert [step.size for step in steps] == [1, 4]
    assert all(step.shape == (224, 224, 3) for step in steps)
    assert all(step.device_seconds > 0 for step in steps)


def test_a_model_says_what_it_is() -> None:
    (model,) = runner().models
    assert (model.name, model.weights, model.weights_sha256) == ("demo", "random", None)
    assert (model.device, model.dtype) == ("cpu", "float32")
    assert (model.input_height, model.input_width) == (224, 224)


def test_labels_come_from_the_operators_file(tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(f"thing {index}" for index in range(1000)))
    (model,) = runner(classify_labels=str(labels)).models
    assert model.labels[999] == "thing 999"


def test_a_labels_file_of_another_length_is_refused(tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("one\ntwo\n")
    with pytest.raises(ValueError, match="2 lines; the network has 1000 classes"):
        runner(classify_labels=str(labels))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_missing_is_refused() -> None:
    with pytest.raises(ValueError, match="cuda:0 was asked for"):
        Runner(load_settings({"classify_weights": "random"}), "cuda:0", SIZES)

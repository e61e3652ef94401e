from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from numpy.typing import NDArray

from model.config import Operation, Task
from model.heads.detections import Detections
from model.images.preprocess import padded_size
from model.inference.predictor import Predictor
from model.kernels.gpu.failures import Fallback
from model.lowering.cpu import lowering_unsupported_reason
from service.engine import loading
from service.engine import runner as runner_module
from service.engine.batches import Fault, Input
from service.engine.device import EngineDevice
from service.engine.loading import warm_up
from service.engine.runner import Runner
from service.link.messages import FallbackInfo
from service.settings import load_settings, specs_of

SIZES = (1, 2, 4, 8)
CLASSIFY = Operation("demo", Task.CLASSIFY)
SEGMENT = Operation("demo-segment", Task.SEGMENT)
DETECT = Operation("mask_rcnn_overlock_xt", Task.DETECT)
NO_BFLOAT16 = lowering_unsupported_reason(torch.bfloat16)
bfloat16 = pytest.mark.skipif(NO_BFLOAT16 is not None, reason=str(NO_BFLOAT16))


def pictures(count: int, height: int = 224, width: int = 224) -> list[NDArray[np.uint8]]:
    generator = np.random.default_rng(3)
    return [generator.integers(0, 256, (height, width, 3), np.uint8) for _ in range(count)]


def inputs(count: int) -> list[Input]:
    return [Input(picture, (224, 224)) for picture in pictures(count)]


@pytest.fixture(autouse=True, scope="module")
def _networks_end_with_their_tests() -> Iterator[None]:
    yield
    runner.cache_clear()


@cache
def runner(**settings: str) -> Runner:
    """Return the engine of these settings, which all tests share."""
    only_classify = {"classify_weights": "random", "segment_model": "off"}
    loaded = load_settings(only_classify | settings)
    return Runner(loaded, specs_of(loaded), "cpu", SIZES)


def test_padding_gets_no_answer() -> None:
    outcome = runner().run(CLASSIFY, inputs(3), (224, 224), 4)
    assert len(outcome.arrays) == 3
    for arrays in outcome.arrays:
        assert arrays is not None
        assert arrays[0].shape == (1000,)
    assert outcome.device_seconds > 0


@pytest.mark.parametrize("compiled", [True, False])
def test_compilations_are_told_where_a_model_is_compiled(
    monkeypatch: pytest.MonkeyPatch, compiled: bool
) -> None:
    told_to: list[object] = []
    monkeypatch.setattr(runner_module, "on_compilation", told_to.append)
    running = runner()
    models = tuple(replace(model, compiled=compiled) for model in running.models)
    monkeypatch.setattr(running, "models", models)
    running.on_compilation(print)
    assert told_to == ([print] if compiled else [])


@bfloat16
def test_bfloat16_answers_in_float32() -> None:
    outcome = runner(dtype="bfloat16").run(CLASSIFY, inputs(1), (224, 224), 1)
    assert outcome.arrays[0] is not None
    assert outcome.arrays[0][0].dtype == np.float32


def test_a_label_map_has_the_size_of_the_callers_image() -> None:
    segmenting = runner(segment_model="demo", segment_weights="random")
    batch = [Input(picture, (50 + index, 80)) for index, picture in enumerate(pictures(2, 64, 96))]
    outcome = segmenting.run(SEGMENT, batch, (64, 96), 2)
    assert [arrays and arrays[0].shape for arrays in outcome.arrays] == [(50, 80), (51, 80)]
    assert outcome.arrays[0] is not None
    assert outcome.arrays[0][0].dtype == np.uint8


@pytest.mark.slow
def test_detections_cross_as_four_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    detecting = runner(detect_model="mask_rcnn_overlock_xt", detect_weights="random")
    found = Detections(
        boxes=torch.zeros(2, 4),
        scores=torch.tensor([0.9, 0.4]),
        labels=torch.tensor([3, 1]),
        masks=torch.zeros(2, 28, 28),
    )
    monkeypatch.setattr(detecting._predictors[DETECT.model].own, "detect", lambda *_: [found, None])
    outcome = detecting.run(DETECT, inputs(2), (224, 224), 2)
    assert outcome.arrays[1] is None
    assert outcome.arrays[0] is not None
    shapes = [(array.shape, array.dtype.str) for array in outcome.arrays[0]]
    assert shapes == [((2, 4), "<f4"), ((2,), "<f4"), ((2,), "<i8"), ((2, 28, 28), "<f4")]


def test_a_classification_is_answered_by_its_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    classifying = runner()
    logits = np.array([0.0, np.log(3.0)], np.float32)
    monkeypatch.setattr(
        classifying._predictors[CLASSIFY.model].own, "launch", lambda *_: lambda: [logits, None]
    )
    outcome = classifying.run(CLASSIFY, inputs(2), (224, 224), 2)
    assert outcome.arrays[0] is not None
    assert np.array_equal(outcome.arrays[0][0], logits)
    assert outcome.arrays[1] is None


def test_a_launched_classification_is_answered_as_one_that_is_run() -> None:
    running = runner()
    want = running.run(CLASSIFY, inputs(3), (224, 224), 4)
    waits = [running.launch(CLASSIFY, inputs(3), (224, 224), 4) for _ in range(2)]
    for wait in waits:
        got = wait()
        for mine, theirs in zip(got.arrays, want.arrays, strict=True):
            assert mine is not None
            assert theirs is not None
            np.testing.assert_array_equal(mine[0], theirs[0])


def test_time_behind_another_batch_is_not_a_batchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    running, now = runner.__wrapped__(), [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def logits() -> list[None]:
        now[0] += 2.0
        return [None]

    monkeypatch.setattr(running._predictors[CLASSIFY.model].own, "launch", lambda *_: logits)
    waits = [running.launch(CLASSIFY, inputs(1), (224, 224), 1) for _ in range(2)]
    assert [wait().device_seconds for wait in waits] == [2.0, 2.0]


def test_a_cpu_gains_nothing_by_launching() -> None:
    assert not runner().launches


def test_warming_up_a_cpu_runs_two_batch_sizes_of_a_fixed_input() -> None:
    steps = list(warm_up(runner(), runner().models[0], CLASSIFY, (1, 4)))
    assert [step.size for step in steps] == [1, 4]
    assert all(step.input_size == (224, 224) for step in steps)
    assert all(step.device_seconds > 0 for step in steps)


def test_a_classifiers_first_run_is_no_measure_however_long_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loading, "PATIENCE_SECONDS", 0.0)
    runs = []
    run = Runner.run

    def counted(loaded: Runner, operation: Operation, *given: Any) -> Any:
        runs.append(operation)
        return run(loaded, operation, *given)

    monkeypatch.setattr(Runner, "run", counted)
    list(warm_up(runner(), runner().models[0], CLASSIFY, (1,)))
    settings = {"classify_model": "off", "segment_model": "demo", "segment_weights": "random"}
    loaded = runner(**settings)
    list(warm_up(loaded, loaded.models[0], SEGMENT, (1,)))
    assert runs == [CLASSIFY, CLASSIFY, SEGMENT]


def test_warming_up_a_segmenter_takes_the_usual_aspect_ratio() -> None:
    settings = {"classify_model": "off", "segment_model": "demo", "segment_weights": "random"}
    loaded = runner(**settings)
    (step,) = warm_up(loaded, loaded.models[0], SEGMENT, (1,))
    assert (step.operation, step.input_size, step.size) == (SEGMENT, padded_size(160, 213, 32), 1)


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=bfloat16)])
def test_an_explicit_type_is_met(dtype: str) -> None:
    (model,) = runner(dtype=dtype).models
    assert (model.dtype, model.dtype_reason) == (dtype, f"OVERLOCK_DTYPE={dtype}")


def test_a_model_says_what_it_is() -> None:
    (model,) = runner().models
    assert (model.name, model.weights, model.weights_sha256) == ("demo", "random", None)
    assert model.device == "cpu"
    assert model.dtype in {"float32", "bfloat16"}
    assert model.dtype_reason.startswith("auto: ")
    assert model.kernels.startswith(("native", "PyTorch's alone, since "))
    assert (model.input.height, model.input.crop_pct) == (224, 1.0)
    assert {*model.input.sources.values()} == {"architecture"}
    assert len(model.colors) == len(model.labels) == 1000


def test_a_task_that_is_off_has_no_model() -> None:
    models = runner(classify_model="off", segment_model="demo", segment_weights="random").models
    assert [model.task for model in models] == [Task.SEGMENT]


def test_a_square_segmenter_has_one_input_size() -> None:
    (_, model) = runner(
        segment_model="demo", segment_weights="random", segment_geometry="square"
    ).models
    assert (model.input.height, model.input.width, model.input.short_side) == (160, 160, None)


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


def test_weights_that_are_missing_are_told_with_their_setting(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="OVERLOCK_SEGMENT_WEIGHTS: There is no weights file"):
        runner(segment_model="upernet_overlock_t", segment_weights=str(tmp_path / "none.pth"))


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU's kernels need the compiler")
def test_an_engine_on_a_cpu_starts_without_pytorchs_compiler() -> None:
    # Importing it takes two seconds, most of what a start takes.
    check = "import sys, service.engine.process; sys.exit('torch._dynamo' in sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_a_device_is_named_as_on_the_host() -> None:
    settings = load_settings({"classify_weights": "random", "segment_model": "off"})
    named = Runner(settings, specs_of(settings), EngineDevice("cuda:1", "cpu"), SIZES)
    (model,) = named.models
    assert (named.host_device, model.device) == ("cuda:1", "cuda:1")
    assert named.device == torch.device("cpu")


def test_a_fallback_under_traffic_is_counted_and_shown_with_its_model() -> None:
    running = runner.__wrapped__()
    told: list[str] = []
    running.on_fallback(told.append)
    running.on_rerecording(lambda: told.append("again"))
    execution = running._predictors[CLASSIFY.model].own.execution
    execution.on_fallback(Fallback("record", "no"))
    execution.on_rerecording()
    assert told == ["record", "again"]
    assert running.models[0].fallbacks == (FallbackInfo("record", "no"),)


def test_a_fallback_in_the_warm_up_is_shown() -> None:
    running = runner()
    running._predictors[CLASSIFY.model].own.execution.on_fallback(Fallback("kernels", "noexec"))
    assert running.models[0].fallbacks == (FallbackInfo("kernels", "noexec"),)


def test_a_fallback_while_loading_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    fallbacks = (Fallback("kernels", "no C compiler"),)
    monkeypatch.setattr(Predictor, "fallbacks", property(lambda _: fallbacks))
    (model,) = runner.__wrapped__().models
    assert model.fallbacks == (FallbackInfo("kernels", "no C compiler"),)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_missing_is_refused() -> None:
    with pytest.raises(ValueError, match="cuda:0 was asked for"):
        Runner(load_settings(), (), "cuda:0", SIZES)


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (ValueError("odd pixels"), Fault.REQUEST),
        (torch.OutOfMemoryError("CUDA out of memory."), Fault.OUT_OF_MEMORY),
        (MemoryError(), Fault.OUT_OF_MEMORY),
        (torch.AcceleratorError("device-side assert triggered"), Fault.DEVICE_LOST),
    ],
)
def test_an_error_says_whether_request_batch_or_device_is_to_blame(
    error: Exception, fault: Fault
) -> None:
    assert runner().fault_of(error) is fault


def test_a_machine_without_memory_is_recognised() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**52)
    assert runner().fault_of(raised.value) is Fault.OUT_OF_MEMORY

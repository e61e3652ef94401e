from __future__ import annotations

import argparse

import pytest

from model.config import Task
from service.api.queries import ClassifyQuery, DetectQuery, SegmentQuery
from service.commands.console.exits import RefusedError
from service.commands.predict.arguments import fill_parser
from service.commands.predict.conversion import checked_count, refuse_mixed, request_of, settings_of


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    fill_parser(parser)
    return parser.parse_args(words)


def test_the_services_defaults_are_the_defaults() -> None:
    assert request_of(parsed("classify", "x")).query == ClassifyQuery()
    assert request_of(parsed("detect", "x", "--json")).query == DetectQuery()


def test_label_maps_come_only_when_they_are_wanted() -> None:
    assert request_of(parsed("segment", "x")).query == SegmentQuery(mask="none", view="overlay")
    request = request_of(parsed("segment", "x", "--mask", "rle", "--save", "out"))
    assert request.query == SegmentQuery(mask="rle", view="overlay")
    assert request.pictures


def test_a_table_of_detections_does_without_masks() -> None:
    assert request_of(parsed("detect", "x")).query == DetectQuery(masks=False)
    assert request_of(parsed("detect", "x", "--save", "out")).query == DetectQuery(masks=True)
    arguments = parsed("detect", "x", "--save", "out", "--no-masks")
    assert request_of(arguments).query == DetectQuery(masks=False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("classify", "x", "--top-k", "0"), "--top-k: .* greater than or equal to 1; it is 0"),
        (("detect", "x", "--score-threshold", "1.5"), "--score-threshold: .*; it is 1.5"),
        (("detect", "x", "--max-detections", "101"), "--max-detections: .*; it is 101"),
    ],
)
def test_a_value_out_of_range_is_refused_in_the_options_name(
    words: tuple[str, ...], message: str
) -> None:
    with pytest.raises(RefusedError, match=message):
        request_of(parsed(*words))


def test_only_the_wanted_task_has_a_model() -> None:
    _, spec = settings_of(parsed("segment", "x"))
    assert (spec.task, spec.name) == (Task.SEGMENT, "demo-segment")


def test_a_variable_counts_and_an_option_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERLOCK_CLASSIFY_MODEL", "overlock_t")
    monkeypatch.setenv("OVERLOCK_CLASSIFY_WEIGHTS", "t.pth")
    monkeypatch.setenv("OVERLOCK_DTYPE", "float32")
    _, spec = settings_of(parsed("classify", "x"))
    assert (spec.architecture, spec.weights) == ("overlock_t", "t.pth")
    words = ("--model", "demo", "--dtype", "bfloat16")
    settings, spec = settings_of(parsed("classify", "x", *words))
    assert (spec.architecture, spec.weights) == ("demo", "demo")
    assert settings.dtype == "bfloat16"


def test_what_an_option_states_is_blamed_by_its_name() -> None:
    words = ("--model", "overlock_t", "--weights", "t.pth", "--crop-pct", "0.9")
    _, spec = settings_of(parsed("classify", "x", *words))
    assert [spec.blame(value) for value in ("weights", "crop_pct")] == ["--weights", "--crop-pct"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("classify", "x", "--model", "overlock_t"), "--weights is needed for overlock_t"),
        (("classify", "x", "--model", "vgg"), "--model: no model 'vgg' can classify"),
        (("classify", "x", "--dtype", "int8"), "--dtype: "),
        (("classify", "x", "--device", "gpu"), "--device: "),
        (("detect", "x"), "Give --model and --weights: there is mask_rcnn_overlock_xt"),
    ],
)
def test_a_wrong_setting_is_refused_in_the_options_name(
    words: tuple[str, ...], message: str
) -> None:
    with pytest.raises(RefusedError, match=message):
        settings_of(parsed(*words))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--concurrency", "3"), "--concurrency has no effect without --url"),
        (("--api-key-file", "k"), "--api-key-file has no effect without --url"),
        (("--url", "http://s", "--batch-size", "3"), "--batch-size has no effect with --url"),
        (("--url", "http://s", "--weights", "x"), "--weights has no effect with --url"),
    ],
)
def test_an_option_without_effect_is_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        refuse_mixed(parsed("classify", "x", *words))


def test_how_many_at_once_is_bounded() -> None:
    assert checked_count(None, 8, "batch_size") == 8
    with pytest.raises(RefusedError, match="--batch-size is 0; it has to be from 1 to 256"):
        checked_count(0, 8, "batch_size")

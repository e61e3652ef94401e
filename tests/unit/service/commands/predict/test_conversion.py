from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from model.config import Task
from service.api.queries import (
    ClassifyQuery,
    DetectQuery,
    EmbedQuery,
    ExplainQuery,
    SegmentQuery,
)
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
    assert request_of(parsed("embed", "x")).query == EmbedQuery()
    assert request_of(parsed("explain", "x")).query == ExplainQuery()


def test_label_maps_come_only_when_they_are_wanted() -> None:
    assert request_of(parsed("segment", "x")).query == SegmentQuery(mask="none", view="overlay")
    request = request_of(parsed("segment", "x", "--mask", "rle", "--save", "out"))
    assert request.query == SegmentQuery(mask="rle", view="overlay")
    assert request.saves


def test_a_table_of_detections_does_without_masks() -> None:
    assert request_of(parsed("detect", "x")).query == DetectQuery(masks=False)
    assert request_of(parsed("detect", "x", "--save", "out")).query == DetectQuery(masks=True)
    arguments = parsed("detect", "x", "--save", "out", "--no-masks")
    assert request_of(arguments).query == DetectQuery(masks=False)


def test_large_images_are_taken_in_tiles() -> None:
    arguments = parsed("segment", "x", "--tile", "1024", "--overlap", "0.3")
    assert request_of(arguments).query == SegmentQuery(
        mask="none", view="overlay", tile=1024, overlap=0.3
    )
    arguments = parsed("detect", "x", "--tile", "1024")
    assert request_of(arguments).query == DetectQuery(masks=False, tile=1024)


def test_an_embedding_has_its_layer_and_a_class_map_its_class() -> None:
    arguments = parsed("embed", "x", "--layer", "stage2", "--normalize")
    assert request_of(arguments).query == EmbedQuery(layer="stage2", normalize=True)
    words = ("--class-id", "3", "--class-id", "0", "--view", "both", "--save", "out")
    request = request_of(parsed("explain", "x", *words))
    assert request.query == ExplainQuery(class_id=[3, 0], view="both")
    assert request.query.model_fields_set == {"class_id", "view"}
    assert request.saves


def test_classes_are_chosen_by_rank_or_by_id(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parsed("explain", "x", "--top-k", "2", "--class-id", "3")
    assert "--class-id: not allowed with argument --top-k" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("classify", "x", "--top-k", "0"), "--top-k: .* greater than or equal to 1; it is 0"),
        (("detect", "x", "--score-threshold", "1.5"), "--score-threshold: .*; it is 1.5"),
        (("detect", "x", "--max-detections", "101"), "--max-detections: .*; it is 101"),
        (("explain", "x", "--top-k", "65"), "--top-k: .*; it is 65"),
        (("segment", "x", "--tile", "100"), "--tile: .*; it is 100"),
        (("detect", "x", "--tile", "512", "--overlap", "0.9"), "--overlap: .*; it is 0.9"),
        (("detect", "x", "--overlap", "0.2"), "--overlap: there is nothing to overlap without"),
        (("explain", "x", "--class-id", "-1"), "--class-id: .*; it is -1"),
        (("embed", "x", "--layer", "x" * 33), "--layer: .* at most 32 characters; it is x"),
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


@pytest.mark.parametrize(
    ("words", "task", "name"),
    [
        ((), Task.CLASSIFY, "demo"),
        (("--model", "demo"), Task.CLASSIFY, "demo"),
        (("--model", "demo-segment"), Task.SEGMENT, "demo-segment"),
        (("--model", "overlock_t", "--weights", "x"), Task.CLASSIFY, "overlock_t"),
        (("--model", "upernet_overlock_s", "--weights", "x"), Task.SEGMENT, "upernet_overlock_s"),
        (
            ("--model", "mask_rcnn_overlock_t", "--weights", "x"),
            Task.DETECT,
            "mask_rcnn_overlock_t",
        ),
    ],
)
def test_every_network_embeds(words: tuple[str, ...], task: Task, name: str) -> None:
    _, spec = settings_of(parsed("embed", "x", *words))
    assert (spec.task, spec.name) == (task, name)


def test_without_a_classifier_the_segmenter_embeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERLOCK_CLASSIFY_MODEL", "off")
    _, spec = settings_of(parsed("embed", "x"))
    assert (spec.task, spec.name) == (Task.SEGMENT, "demo-segment")
    # Weights without a model are a classifier's, not of whatever embeds instead.
    with pytest.raises(RefusedError, match="Give --model and --weights"):
        settings_of(parsed("embed", "x", "--weights", "x.pth"))


def test_a_name_for_the_services_only_model_refuses_nothing_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OVERLOCK_MODEL_NAME", "birds")
    _, spec = settings_of(parsed("segment", "x"))
    assert spec.name == "demo-segment"


def test_a_models_file_has_a_model_for_every_task(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    tables = (("moths", "demo", "segment"), ("birds", "demo", "classify"))
    file.write_text(
        "".join(
            f'[{name}]\narchitecture = "{architecture}"\ntask = "{task}"\nweights = "demo"\n'
            for name, architecture, task in tables
        )
    )
    words = ("x", "--models-file", str(file))
    assert settings_of(parsed("embed", *words))[1].name == "birds"
    assert settings_of(parsed("embed", *words, "--model", "moths"))[1].name == "moths"
    assert settings_of(parsed("explain", *words))[1].name == "birds"
    with pytest.raises(RefusedError, match="no model moths that can explain; it has birds"):
        settings_of(parsed("explain", *words, "--model", "moths"))


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


@pytest.mark.parametrize(
    ("task", "published"),
    [
        ("classify", "overlock_xt, overlock_t, overlock_s, overlock_b"),
        ("segment", "upernet_overlock_t, upernet_overlock_s, upernet_overlock_b"),
    ],
)
def test_published_weights_need_a_model_that_has_them(
    task: str, published: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (task, "photos", "--weights", "pretrained")
    with pytest.raises(RefusedError) as refusal:
        settings_of(parsed(*words))
    assert str(refusal.value) == f"--weights pretrained needs --model: give {published}."
    name = published.split(", ")[1]
    monkeypatch.setenv(f"OVERLOCK_{task.upper()}_MODEL", name)
    assert settings_of(parsed(*words))[1].architecture == name


def test_what_an_option_states_is_blamed_by_its_name() -> None:
    words = ("--model", "overlock_t", "--weights", "t.pth", "--crop-pct", "0.9")
    _, spec = settings_of(parsed("classify", "x", *words))
    assert [spec.blame(value) for value in ("weights", "crop_pct")] == ["--weights", "--crop-pct"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("classify", "x", "--model", "overlock_t"), "--weights is needed for overlock_t"),
        (("classify", "x", "--model", "vgg"), "--model: no model 'vgg' can classify; there are ov"),
        (("classify", "x", "--model", "off"), "--model: no model 'off' can classify"),
        (
            ("embed", "x", "--model", "vgg"),
            "'vgg' can embed; there are .*, demo-segment, mask_rcnn",
        ),
        (("explain", "x", "--model", "demo-segment"), "no model 'demo-segment' can explain"),
        (("embed", "x", "--model", "upernet_overlock_t"), "--weights is needed for upernet_ove"),
        (("classify", "x", "--dtype", "int8"), "--dtype: "),
        (("classify", "x", "--device", "gpu"), "--device: "),
        (("detect", "x"), "Give --model and --weights: there are mask_rcnn_overlock_xt"),
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


def test_a_view_is_of_the_picture_that_is_saved() -> None:
    with pytest.raises(RefusedError, match="--view has no effect without --save"):
        refuse_mixed(parsed("explain", "x", "--view", "both"))
    refuse_mixed(parsed("explain", "x", "--view", "both", "--save", "out"))


def test_how_many_at_once_is_bounded() -> None:
    assert checked_count(None, 8, "batch_size") == 8
    with pytest.raises(RefusedError, match="--batch-size is 0; it has to be from 1 to 256"):
        checked_count(0, 8, "batch_size")


def test_a_models_file_of_the_environment_is_one_of_the_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "models.toml"
    file.write_text('[a]\narchitecture = "demo"\n[b]\narchitecture = "demo"\ndefault = true\n')
    monkeypatch.setenv("OVERLOCK_MODELS_FILE", str(file))
    assert settings_of(parsed("classify", "x"))[1].name == "b"
    assert settings_of(parsed("classify", "x", "--model", "a"))[1].name == "a"
    with pytest.raises(
        RefusedError, match=r"has no model overlock_t that can classify; it has b, a"
    ):
        settings_of(parsed("classify", "x", "--model", "overlock_t"))
    # Weights of one's own are no table's.
    words = ("--model", "demo", "--weights", "random")
    assert settings_of(parsed("classify", "x", *words))[1].weights == "random"

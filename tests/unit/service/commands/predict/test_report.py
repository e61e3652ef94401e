from __future__ import annotations

import json
from pathlib import Path, PurePath

import pytest

from model.config import Task
from service.api.schemas import (
    ClassifyResponse,
    ClassMap,
    Detection,
    DetectResponse,
    EmbedResponse,
    ExplainResponse,
    ImageFacts,
    Prediction,
    Region,
    SegmentedClass,
    SegmentResponse,
    Timing,
)
from service.commands.console.exits import DONE, FAILED
from service.commands.predict.outcome import Failure, Outcome, PredictAnswer
from service.commands.predict.report import PredictionReport
from service.commands.predict.sources import Source

IMAGE = ImageFacts(width=4, height=3, frames=1)
TIMING = Timing(
    decode_seconds=0, queue_seconds=0, inference_seconds=0, render_seconds=0, batch_size=1
)
STAR = ClassifyResponse(
    model="demo",
    predictions=[
        Prediction(class_id=3, label="star", score=0.966),
        Prediction(class_id=2, label="tri\x1b[2Jangle", score=0.006),
    ],
    image=IMAGE,
    timing=TIMING,
)
BAD = Failure("invalid-image", "The image cannot be decoded: it is empty.")


def source(name: str, place: str | None = None) -> Source:
    return Source(name, PurePath(place or Path(name).name), b"")


def report(*outcomes: Outcome, as_json: bool = False, folder: Path | None = None) -> int:
    sources = [outcome.source for outcome in outcomes]
    with PredictionReport(sources, Task.CLASSIFY, as_json=as_json, folder=folder) as shown:
        for outcome in outcomes:
            shown.add(outcome)
        shown.finish()
    return shown.exit_code


def test_people_get_a_table_without_escape_codes(capsys: pytest.CaptureFixture[str]) -> None:
    code = report(Outcome(source("a/star.png"), PredictAnswer(STAR, None)))
    assert code == DONE
    assert capsys.readouterr().out.splitlines() == [
        "file          score  class",
        "a/star.png   96.6 %  star",
        "              0.6 %  tri\\x1b[2Jangle",
    ]


def test_what_fails_is_told_beside_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    code = report(
        Outcome(source("bad\n.jpg"), BAD), Outcome(source("star.png"), PredictAnswer(STAR, None))
    )
    assert code == FAILED
    captured = capsys.readouterr()
    assert "star.png" in captured.out
    assert captured.err.splitlines() == [
        "overlock predict: bad\\n.jpg: The image cannot be decoded: it is empty.",
        "overlock predict: 1 of 2 failed.",
    ]


def test_programs_get_a_line_for_every_image(capsys: pytest.CaptureFixture[str]) -> None:
    report(
        Outcome(source("bad.jpg"), BAD),
        Outcome(source("n\udce4m.png"), PredictAnswer(STAR, None)),
        as_json=True,
    )
    bad, star = map(json.loads, capsys.readouterr().out.splitlines())
    assert bad == {
        "file": "bad.jpg",
        "error": {"kind": "invalid-image", "detail": BAD.detail},
    }
    assert star == {"file": "n\udce4m.png", **STAR.model_dump(mode="json")}


def test_segments_and_detections_have_their_columns(capsys: pytest.CaptureFixture[str]) -> None:
    segments = SegmentResponse(
        model="demo",
        classes=[SegmentedClass(class_id=0, label="sky", color="#000000", pixels=9, fraction=0.75)],
        mask=None,
        image=IMAGE,
        timing=TIMING,
    )
    found = DetectResponse(
        model="m",
        detections=[Detection(class_id=1, label="dog", score=0.9, box=(1.4, 2, 3, 4.6), mask=None)],
        image=IMAGE,
        timing=TIMING,
    )
    nothing = DetectResponse(model="m", detections=[], image=IMAGE, timing=TIMING)
    for task, document in ((Task.SEGMENT, segments), (Task.DETECT, found), (Task.DETECT, nothing)):
        with PredictionReport([source("x")], task, as_json=False, folder=None) as shown:
            shown.add(Outcome(source("x"), PredictAnswer(document, None)))
    words = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert words[:2] == [["file", "share", "class"], ["x", "75.0", "%", "sky"]]
    assert words[3] == ["x", "90.0", "%", "dog", "1", "2", "3", "5"]
    assert words[5] == ["x", "nothing", "found"]


def test_embeddings_and_class_maps_have_their_columns(capsys: pytest.CaptureFixture[str]) -> None:
    vector = EmbedResponse(
        model="demo",
        layer="stage1",
        dimension=2,
        normalized=False,
        embedding=[3.0, -4.0],
        image=IMAGE,
        timing=TIMING,
    )
    highest_at_the_lower_left = [[0.0, 1.0, 2.0], [3.5, 0.0, -9.0]]
    maps = ExplainResponse(
        model="demo",
        size=[2, 3],
        region=Region(x=100, y=10, width=60, height=40),
        maps=[
            ClassMap(
                class_id=3,
                label="star",
                score=0.875,
                logit=-0.4166,
                focus=highest_at_the_lower_left,
                overview=None,
            )
        ],
        overview_logits_available=False,
        reason=None,
        image=IMAGE,
        timing=TIMING,
    )
    for task, document in ((Task.EMBED, vector), (Task.EXPLAIN, maps)):
        with PredictionReport([source("x")], task, as_json=False, folder=None) as shown:
            shown.add(Outcome(source("x"), PredictAnswer(document, None)))
    words = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert words[:2] == [["file", "layer", "dimension", "length"], ["x", "stage1", "2", "5"]]
    assert words[2] == ["file", "score", "logit", "peak", "x", "y", "class"]
    assert words[3] == ["x", "87.5", "%", "-0.42", "110", "40", "star"]


def test_overlays_keep_the_folders_below_the_one_that_was_named(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "overlays"
    report(
        Outcome(source("photos/deep/a.jpg", "deep/a.jpg"), PredictAnswer(STAR, b"a picture")),
        folder=folder,
    )
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files == [folder / "deep" / "a.jpg.overlay.png"]
    assert files[0].read_bytes() == b"a picture"


def test_an_overlay_that_cannot_be_saved_fails_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jpg.overlay.png").mkdir()
    code = report(
        Outcome(source("a.jpg"), PredictAnswer(STAR, b"a picture")),
        Outcome(source("b.jpg"), PredictAnswer(STAR, b"a picture")),
        folder=tmp_path,
    )
    assert code == FAILED
    assert "a.jpg: The result cannot be saved" in capsys.readouterr().err
    assert (tmp_path / "b.jpg.overlay.png").read_bytes() == b"a picture"


def test_a_pipe_gets_a_line_of_progress_every_ten_seconds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = 100.0
    sources = [source(f"{number}.png") for number in range(5)]
    with PredictionReport(
        sources, Task.CLASSIFY, as_json=True, folder=None, clock=lambda: now
    ) as shown:
        for each in sources:
            now += 6.0
            shown.add(Outcome(each, PredictAnswer(STAR, None)))
    assert capsys.readouterr().err.splitlines() == [
        "overlock predict: 2 of 5 images, 0.167 a second, about 00:18 left.",
        "overlock predict: 4 of 5 images, 0.167 a second, about 00:06 left.",
    ]


def test_what_is_given_up_counts_as_failed(capsys: pytest.CaptureFixture[str]) -> None:
    sources = [source(name) for name in "abc"]
    with PredictionReport(sources, Task.CLASSIFY, as_json=False, folder=None) as shown:
        shown.add(Outcome(source("a"), PredictAnswer(STAR, None)))
        shown.give_up("The device is lost.")
        shown.finish()
    assert shown.exit_code == FAILED
    assert capsys.readouterr().err.splitlines() == [
        "overlock predict: The device is lost.",
        "overlock predict: 2 of 3 failed.",
    ]

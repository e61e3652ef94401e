from __future__ import annotations

from pathlib import Path, PurePath

import numpy as np
import pytest

from model.config import Task
from service.api.schemas import (
    ClassifyResponse,
    ClassMap,
    EmbedResponse,
    ExplainResponse,
    ImageFacts,
    Region,
    Timing,
)
from service.commands.console.exits import RefusedError
from service.commands.predict.outcome import PredictAnswer
from service.commands.predict.report import PredictionReport
from service.commands.predict.saving import check_places, save
from service.commands.predict.sources import Source, SourceError

IMAGE = ImageFacts(width=4, height=3, frames=1)
TIMING = Timing(
    decode_seconds=0, queue_seconds=0, inference_seconds=0, render_seconds=0, batch_size=1
)
HUNDREDTHS = np.array([0.01, -3.25e-8, 7], np.float32)


def source(name: str, place: str | None = None) -> Source:
    return Source(name, PurePath(place or Path(name).name), b"")


def class_map(class_id: int, overview: list[list[float]] | None) -> ClassMap:
    return ClassMap(
        class_id=class_id,
        label="star",
        score=0.5,
        logit=class_id,
        focus=[[class_id, class_id + 1]],
        overview=overview,
    )


def explained(*maps: ClassMap) -> ExplainResponse:
    return ExplainResponse(
        model="demo",
        size=[1, 2],
        region=Region(x=0, y=0, width=4, height=3),
        maps=list(maps),
        overview_logits_available=maps[0].overview is not None,
        reason=None,
        image=IMAGE,
        timing=TIMING,
    )


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_an_embedding_is_saved_to_the_last_bit(tmp_path: Path) -> None:
    document = EmbedResponse(
        model="demo",
        layer="head",
        dimension=3,
        normalized=False,
        embedding=HUNDREDTHS.tolist(),
        image=IMAGE,
        timing=TIMING,
    )
    over_http = EmbedResponse.model_validate_json(document.model_dump_json())
    save(PredictAnswer(over_http, None), source("photos/in/a.jpg", "in/a.jpg"), tmp_path)
    assert files_in(tmp_path) == ["in/a.jpg.npy"]
    saved = np.load(tmp_path / "in" / "a.jpg.npy", allow_pickle=False)
    assert saved.dtype == np.float32
    assert saved.tobytes() == HUNDREDTHS.tobytes()


def test_class_maps_are_saved_beside_their_picture(tmp_path: Path) -> None:
    document = explained(class_map(3, [[30, 31]]), class_map(5, [[50, 51]]))
    save(PredictAnswer(document, b"a picture"), source("a.jpg"), tmp_path)
    assert files_in(tmp_path) == ["a.jpg.explained.png", "a.jpg.npy"]
    assert (tmp_path / "a.jpg.explained.png").read_bytes() == b"a picture"
    saved = np.load(tmp_path / "a.jpg.npy", allow_pickle=False)
    assert saved.dtype == np.float32
    assert saved.tolist() == [[[[3, 4]], [[30, 31]]], [[[5, 6]], [[50, 51]]]]


def test_without_an_overview_there_is_one_look(tmp_path: Path) -> None:
    save(PredictAnswer(explained(class_map(3, None)), None), source("a.jpg"), tmp_path)
    assert np.load(tmp_path / "a.jpg.npy").tolist() == [[[[3, 4]]]]


def test_an_overlay_is_all_that_other_tasks_save(tmp_path: Path) -> None:
    document = ClassifyResponse(model="demo", predictions=[], image=IMAGE, timing=TIMING)
    save(PredictAnswer(document, b"a picture"), source("a.jpg"), tmp_path)
    assert files_in(tmp_path) == ["a.jpg.overlay.png"]


@pytest.mark.parametrize(
    ("task", "name"), [(Task.SEGMENT, "x.jpg.overlay.png"), (Task.EMBED, "x.jpg.npy")]
)
def test_files_that_would_be_one_are_refused_before_there_is_work(
    tmp_path: Path, task: Task, name: str
) -> None:
    sources = [source("a/x.jpg"), source("b/x.jpg")]
    with pytest.raises(RefusedError, match=rf"a/x\.jpg and b/x\.jpg would be one file, {name}"):
        PredictionReport(sources, task, as_json=False, folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_images_that_are_missing_have_no_place() -> None:
    missing = Source("*.gif", PurePath(), SourceError("No file matches."))
    check_places([missing, missing, source("a.jpg")], Task.EMBED)

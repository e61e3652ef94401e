"""``overlock predict`` as users call it, against the real service."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.scenes.scenes import draw_scene
from support.command_line import overlock, overlock_on_a_terminal
from support.image_samples import good_samples
from support.running_service import RunningService
from support.scene_files import png

ESCAPE = b"\x1b"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four images in two shapes, one of them in a folder of its own."""
    folder = tmp_path_factory.mktemp("photos")
    shapes = {"a.png": (120, 160), "b.png": (160, 120), "c.png": (120, 160), "in/d.png": (120, 160)}
    for seed, (name, (height, width)) in enumerate(shapes.items()):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(png(draw_scene(510_000 + seed, height, width).image))
    return folder


def documents(output: bytes) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in output.splitlines()]
    for document in found:
        document.pop("timing", None)
    return found


NAMES = ("a.png", "b.png", "c.png", "in/d.png")


PLACES = ("here", "there")


def run_here_and_there(
    task: str, demo: RunningService, photos: Path, folder: Path, *options: str
) -> list[list[dict[str, Any]]]:
    found = []
    for place, chosen in zip(PLACES, ((), ("--url", demo.url)), strict=True):
        words = ("predict", task, str(photos), "--json", "--save", place)
        done = overlock(*words, *options, *chosen, folder=folder)
        assert done.returncode == 0, done.stderr
        found.append(documents(done.stdout))
    return found


def test_the_same_classes_are_found_here_and_there(demo: RunningService, photos: Path) -> None:
    words = ("predict", "classify", str(photos), "--json")
    here, there = overlock(*words), overlock(*words, "--url", demo.url)
    assert (here.returncode, there.returncode) == (0, 0), here.stderr + there.stderr
    ours, theirs = documents(here.stdout), documents(there.stdout)
    assert [document["file"] for document in ours] == [str(photos / name) for name in NAMES]
    for mine, other in zip(ours, theirs, strict=True):
        for found, same in zip(mine["predictions"], other["predictions"], strict=True):
            # Batches of other sizes add up in another order.
            assert found.pop("score") == pytest.approx(same.pop("score"), abs=1e-5)
        assert mine == other


def test_the_same_segments_are_found_and_drawn_here_and_there(
    demo: RunningService, photos: Path, tmp_path: Path
) -> None:
    found = []
    for place, options in (("here", ("--batch-size", "1")), ("there", ("--url", demo.url))):
        words = ("predict", "segment", str(photos), "--json", "--mask", "rle", "--save", place)
        done = overlock(*words, *options, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        found.append(documents(done.stdout))
    assert found[0] == found[1]
    assert found[0][0]["mask"]["format"] == "rle"
    for name in NAMES:
        here, there = (tmp_path / place / f"{name}.overlay.png" for place in ("here", "there"))
        assert here.read_bytes() == there.read_bytes()


@pytest.mark.parametrize(
    ("options", "layer"),
    [(("--normalize",), "head"), (("--model", "demo-segment", "--layer", "focus3"), "focus3")],
    ids=["classifier", "segmenter"],
)
def test_the_same_embeddings_are_found_and_saved_here_and_there(
    options: tuple[str, ...], layer: str, demo: RunningService, photos: Path, tmp_path: Path
) -> None:
    here, there = run_here_and_there("embed", demo, photos, tmp_path, *options)
    for name, mine, other in zip(NAMES, here, there, strict=True):
        vector = np.array(mine.pop("embedding"), np.float32)
        # Batches of other sizes add up in another order.
        np.testing.assert_allclose(vector, other.pop("embedding"), rtol=1e-4, atol=1e-5)
        assert mine == other
        assert (mine["layer"], mine["dimension"]) == (layer, len(vector))
        saved = np.load(tmp_path / "here" / f"{name}.npy")
        assert saved.tobytes() == vector.tobytes()
        assert np.load(tmp_path / "there" / f"{name}.npy").shape == saved.shape


def test_the_same_class_maps_are_found_and_drawn_here_and_there(
    demo: RunningService, photos: Path, tmp_path: Path
) -> None:
    options = ("--class-id", "3", "--class-id", "7", "--view", "both")
    here, there = run_here_and_there("explain", demo, photos, tmp_path, *options)
    for name, mine, other in zip(NAMES, here, there, strict=True):
        assert [each["class_id"] for each in mine["maps"]] == [3, 7]
        for found, same in zip(mine["maps"], other["maps"], strict=True):
            assert np.mean(found["focus"]) == pytest.approx(found["logit"], abs=1e-4)
            for value in ("score", "logit", "focus", "overview"):
                # Batches of other sizes add up in another order.
                np.testing.assert_allclose(found.pop(value), same.pop(value), rtol=1e-4, atol=1e-4)
        assert mine == other
        maps, others = (np.load(tmp_path / place / f"{name}.npy") for place in PLACES)
        assert maps.shape == (2, 2, *mine["size"])
        np.testing.assert_allclose(maps, others, rtol=1e-4, atol=1e-4)
        drawn, same_drawn = (
            np.asarray(Image.open(tmp_path / place / f"{name}.explained.png")).astype(int)
            for place in PLACES
        )
        height, width = mine["image"]["height"], mine["image"]["width"]
        assert drawn.shape == (height, 2 * width, 3)
        # A color may be the next one of its scale.
        assert np.abs(drawn - same_drawn).max() <= 4


def test_people_see_where_a_class_comes_from(demo: RunningService, photos: Path) -> None:
    words = ("predict", "explain", str(photos / "a.png"), "--top-k", "2")
    here, there = overlock(*words), overlock(*words, "--url", demo.url)
    assert here.stdout == there.stdout
    title, *rows = here.stdout.decode().splitlines()
    assert title.split() == ["file", "score", "logit", "peak", "x", "y", "class"]
    for row in rows:
        x, y = map(int, row.split()[-3:-1])
        assert (0 <= x < 160, 0 <= y < 120) == (True, True)


@pytest.mark.parametrize("place", ["here", "there"])
def test_one_bad_file_does_not_stop_the_others(
    place: str, demo: RunningService, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    options = ("--url", demo.url) if place == "there" else ()
    arguments = ("bad.jpg", "nowhere.jpg", "*.gif", "-", str(photos / "a.png"), "--top-k", "1")
    done = overlock("predict", "classify", *arguments, *options, folder=tmp_path, stdin=b"neither")
    assert done.returncode == 1
    rows = done.stdout.decode().splitlines()
    assert len(rows) == 2
    assert rows[1].startswith(str(photos / "a.png"))
    *messages, last = done.stderr.decode().splitlines()[1:]
    assert last == "overlock predict: 4 of 5 failed."
    found = [message.removeprefix("overlock predict: ") for message in messages]
    assert found[0].startswith("bad.jpg: The bytes are not an image of a known format;")
    assert found[1:3] == ["nowhere.jpg: No such file or directory", "*.gif: No file matches."]
    assert found[3].startswith("stdin: The bytes are not an image")


@pytest.mark.parametrize("place", ["here", "there"])
def test_a_folder_is_searched_for_all_that_the_service_reads(
    place: str, demo: RunningService, tmp_path: Path
) -> None:
    names = ("avif", "heic", "gif-grey", "bmp-runs-8", "bigtiff-raw", "jpeg-rgb")
    for name in names:
        sample = good_samples()[name]
        suffix = sample.media_type.removeprefix("image/")
        (tmp_path / f"{name}.{suffix}").write_bytes(sample.body)
    for name in ("notes.txt", "more.txt", "drawing.svg"):
        (tmp_path / name).touch()
    options = ("--url", demo.url) if place == "there" else ()
    done = overlock("predict", "classify", ".", "--top-k", "1", *options, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.decode().splitlines()) == 1 + len(names)
    skipped, _ = done.stderr.decode().splitlines()
    assert skipped.startswith("overlock predict: Skipped in the folders: 2 .txt, 1 .svg. ")


def test_a_pipe_gets_no_escape_codes_and_no_progress(demo: RunningService, photos: Path) -> None:
    done = overlock("predict", "classify", str(photos), "--url", demo.url)
    assert ESCAPE not in done.stdout + done.stderr
    assert b"images/s" not in done.stderr
    assert done.stderr.decode().startswith("overlock predict: Demo weights: a tiny network")


def test_a_terminal_gets_a_heading_and_the_progress(demo: RunningService, photos: Path) -> None:
    words = ("predict", "classify", str(photos), "--url", demo.url)
    code, screen = overlock_on_a_terminal(*words)
    assert code == 0
    assert b"\x1b[1mfile" in screen
    assert b"/4 [" in screen
    _, screen = overlock_on_a_terminal(*words, NO_COLOR="1")
    assert ESCAPE not in screen


@pytest.mark.parametrize("place", ["here", "there"])
def test_ctrl_c_ends_it_without_a_traceback(place: str, demo: RunningService, photos: Path) -> None:
    options = ("--url", demo.url) if place == "there" else ("--batch-size", "1")
    many = [str(photos / "a.png")] * 3000
    code, screen = overlock_on_a_terminal(
        "predict", "classify", *many, *options, interrupt_after=b"a.png "
    )
    assert code == 130
    assert b"Traceback" not in screen
    assert screen.count(b"a.png ") < 3000


def test_ctrl_c_while_torch_is_loaded_is_quiet(photos: Path) -> None:
    # The progress bar is there before the network is.
    code, screen = overlock_on_a_terminal(
        "predict", "classify", str(photos), interrupt_after=b"0/4"
    )
    assert code == 130
    assert b"Traceback" not in screen


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model", "overlock_t"), "--weights is needed for overlock_t"),
        (("--model", "overlock_t", "--weights", "none.pth"), "none.pth"),
        (("--top-k", "11"), "top_k is 11; demo has 10 classes"),
        (("--url", "http://127.0.0.1:9", "--timeout", "1"), "http://127.0.0.1:9 cannot be reached"),
        (("--url", "127.0.0.1"), "no address like"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_begin_is_told_in_a_line(words: tuple[str, ...], message: str) -> None:
    done = overlock("predict", "classify", "x.png", *words)
    assert done.returncode == 2
    assert done.stdout == b""
    (line,) = done.stderr.decode().splitlines()
    assert message in line


def test_a_task_that_is_off_is_named(demo: RunningService) -> None:
    done = overlock("predict", "detect", "x.png", "--url", demo.url)
    assert done.returncode == 2
    assert b"does not detect; it serves: classify, segment." in done.stderr


def test_a_key_is_read_from_a_file(demo: RunningService, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    done = overlock(
        *("predict", "classify", str(photos), "--url", demo.url),
        *("--api-key-file", str(tmp_path / "empty")),
    )
    assert done.returncode == 2
    assert b"holds no key: it is empty" in done.stderr

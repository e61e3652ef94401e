"""Large images in tiles: what is refused, what is noticed, and the same files in every run."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.commands.console.exits import DONE, RefusedError
from support.batch_networks import DetectingNetwork
from support.batch_runs import Batch, files_in, write_scenes

MODEL = ("--model", "mask_rcnn_overlock_xt", "--weights", "random", "--no-masks")
UNTILED = ("detect", "aerials", "--output", "found", "--part-size", "2", *MODEL)
WORDS = (*UNTILED, "--tile", "256")


@pytest.fixture
def aerials(tmp_path: Path) -> Path:
    write_scenes(tmp_path / "aerials", 5, [(300, 400), (200, 240)])
    return tmp_path / "aerials"


@pytest.fixture
def whole(batch: Batch, aerials: Path, tmp_path: Path) -> dict[str, bytes]:
    """The files of a run."""
    assert batch(*WORDS, network=DetectingNetwork) == DONE
    return files_in(tmp_path / "found")


def test_a_part_that_is_lost_is_made_again_to_the_same_bytes(
    whole: dict[str, bytes], batch: Batch, tmp_path: Path
) -> None:
    (tmp_path / "found" / "part-00001.parquet").unlink()
    given = (*WORDS, "--overlap", "0.2", "--batch-size", "3")  # the default overlap
    assert batch(*given, network=DetectingNetwork) == DONE
    assert files_in(tmp_path / "found") == whole


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*WORDS, "--tile", "300"), "--tile was 256 and is 300"),
        ((*WORDS, "--overlap", "0.1"), "--overlap was 0.2 and is 0.1"),
        (UNTILED, "--tile was 256 and is none"),
    ],
)
def test_other_tiles_are_refused(
    words: tuple[str, ...], said: str, whole: dict[str, bytes], batch: Batch, tmp_path: Path
) -> None:
    with pytest.raises(RefusedError, match=said):
        batch(*words, network=DetectingNetwork)
    assert files_in(tmp_path / "found") == whole


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--tile", "255"), "--tile: .* greater than or equal to 256; it is 255"),
        (("--tile", "8193"), "--tile: .* less than or equal to 8192; it is 8193"),
        (("--tile", "256", "--overlap", "0.6"), "--overlap: .* less than or equal to 0.5"),
        (("--overlap", "0.1"), "--overlap: there is nothing to overlap without tile"),
    ],
)
@pytest.mark.parametrize("task", ["segment", "detect"])
def test_tiles_out_of_range_are_refused_before_anything_is_made(
    task: str, words: tuple[str, ...], said: str, batch: Batch, aerials: Path, tmp_path: Path
) -> None:
    with pytest.raises(RefusedError, match=said):
        batch(task, "aerials", "--output", "found", *words)
    assert not (tmp_path / "found").exists()


@pytest.mark.parametrize("task", ["classify", "embed"])
def test_other_tasks_have_no_tiles(
    task: str, batch: Batch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        batch(task, "aerials", "--output", "found", "--tile", "256")
    assert "unrecognized arguments: --tile 256" in capsys.readouterr().err

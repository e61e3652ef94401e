from __future__ import annotations

from dataclasses import replace

import pytest

from model.config import Task
from model.evaluation.report import EvaluationReport
from service.commands.evaluate.table import as_text

REPORT = EvaluationReport(
    task=Task.CLASSIFY,
    model="overlock_t",
    weights="overlock_t_in1k_224.pth",
    digest="0123456789abcdef",
    weights_kind="ema",
    input={"input_size": 384, "crop_pct": 1.0, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2]},
    input_from={
        "input_size": "checkpoint",
        "crop_pct": "option",
        "mean": "architecture",
        "std": "architecture",
    },
    data="/data/val",
    data_items=50_000,
    classes=1000,
    comparable=True,
    settings={"dtype": "float32"},
    device="CPU",
    offset=0,
    limit=None,
    ranges=[[0, 50_000]],
    items=50_000,
    metrics={"top1": 84.128, "top5": 96.9},
    published={"paper": {"top1": 84.2}},
    counts={},
    command="",
    torch="2.13.0",
    seconds=61.2,
)


def test_the_paper_stands_beside_the_measured() -> None:
    assert as_text(REPORT) == (
        "overlock_t (overlock_t_in1k_224.pth weights, EMA, SHA-256 0123456789ab)\n"
        "on 50000 images of /data/val\n"
        "float32 on CPU, 61 s\n"
        "input_size 384 (checkpoint), crop_pct 1.0 (option)\n"
        "mean 0.5 0.4 0.3 (architecture), std 0.2 0.2 0.2 (architecture)\n"
        "\n"
        "percent         measured  paper  difference\n"
        "top-1 accuracy     84.13   84.2       -0.07\n"
        "top-5 accuracy     96.90"
    )


def test_each_length_of_training_has_its_columns() -> None:
    published = {
        "paper 1x": {"box_ap": 48.3, "mask_ap": 43.3},
        "paper 3x": {"box_ap": 49.6, "mask_ap": 43.9},
    }
    metrics = {"box_ap": 49.0, "box_ap_small": None, "mask_ap": 43.5}
    text = as_text(replace(REPORT, metrics=metrics, published=published))
    assert text.splitlines()[6:] == [
        "percent  measured  paper 1x  difference  paper 3x  difference",
        "box AP      49.00      48.3       +0.70      49.6       -0.60",
        "box APs         -",
        "mask AP     43.50      43.3       +0.20      43.9       -0.40",
    ]


def test_a_part_of_the_data_is_called_one() -> None:
    text = as_text(replace(REPORT, items=1000))
    assert "on 1000 of 50000 images of /data/val\n" in text
    assert text.endswith("The paper's number is for the whole data set, this one for a part.")


@pytest.mark.parametrize(
    ("weights", "warning"), [("random", "Random weights:"), ("demo", "Demo weights,")]
)
def test_weights_that_are_not_the_papers_are_called_so(weights: str, warning: str) -> None:
    text = as_text(replace(REPORT, weights=weights, published=None, digest=None))
    assert text.startswith(f"overlock_t ({weights} weights)\n")
    assert text.splitlines()[-1].startswith(warning)


def test_the_demo_data_are_drawn_scenes() -> None:
    text = as_text(replace(REPORT, data="demo", data_items=2000, items=64, published=None))
    assert "on 64 of 2000 drawn scenes\n" in text

"""The label tables' facts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from importlib.resources import files

import pytest

from model.labels.tables import ade20k_labels, ade20k_palette, coco_labels, imagenet_labels


def test_imagenet_has_a_thousand_labels() -> None:
    assert len(imagenet_labels()) == 1000


@pytest.mark.parametrize(
    ("class_id", "label"),
    [
        (0, "tench, Tinca tinca"),
        (7, "cock"),
        (207, "golden retriever"),
        (281, "tabby, tabby cat"),
        (999, "toilet tissue, toilet paper, bathroom tissue"),
    ],
)
def test_class_id_has_its_label(class_id: int, label: str) -> None:
    assert imagenet_labels()[class_id] == label


def test_only_crane_names_two_classes() -> None:
    # The bird and the machine; WordNet calls both so.
    assert [label for label, count in Counter(imagenet_labels()).items() if count > 1] == ["crane"]


@pytest.mark.parametrize("labels", [imagenet_labels, ade20k_labels, coco_labels])
def test_no_label_has_stray_spaces_or_is_empty(labels: Callable[[], tuple[str, ...]]) -> None:
    assert all(label and label == label.strip() for label in labels())


def test_class_ids_follow_the_sorted_wordnet_ids() -> None:
    table = (files("model.labels") / "imagenet1k.tsv").read_text(encoding="utf-8")
    wordnet_ids = [line.split("\t")[0] for line in table.splitlines()]
    assert wordnet_ids == sorted(set(wordnet_ids))


def test_ade20k_has_150_labels_and_colours() -> None:
    assert len(set(ade20k_labels())) == len(ade20k_palette()) == 150


@pytest.mark.parametrize(
    ("class_id", "label", "color"),
    [
        (0, "wall", (120, 120, 120)),
        (2, "sky", (6, 230, 230)),
        (12, "person", (150, 5, 61)),
        (149, "flag", (92, 0, 255)),
    ],
)
def test_ade20k_class_has_its_label_and_colour(
    class_id: int, label: str, color: tuple[int, int, int]
) -> None:
    assert (ade20k_labels()[class_id], ade20k_palette()[class_id]) == (label, color)


def test_ade20k_shares_one_colour_among_two_classes() -> None:
    # So the data set's authors have it: for road and skyscraper.
    shared = [color for color, count in Counter(ade20k_palette()).items() if count > 1]
    assert shared == [(140, 140, 140)]


def test_coco_has_80_labels() -> None:
    assert len(set(coco_labels())) == 80


@pytest.mark.parametrize(
    ("class_id", "label"), [(0, "person"), (16, "dog"), (60, "dining table"), (79, "toothbrush")]
)
def test_coco_class_has_its_label(class_id: int, label: str) -> None:
    assert coco_labels()[class_id] == label

"""The label tables' facts."""

from __future__ import annotations

from collections import Counter
from importlib.resources import files

import pytest

from model.labels.tables import imagenet_labels


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


def test_no_label_has_stray_spaces_or_is_empty() -> None:
    assert all(label and label == label.strip() for label in imagenet_labels())


def test_class_ids_follow_the_sorted_wordnet_ids() -> None:
    table = (files("model.labels") / "imagenet1k.tsv").read_text(encoding="utf-8")
    wordnet_ids = [line.split("\t")[0] for line in table.splitlines()]
    assert wordnet_ids == sorted(set(wordnet_ids))

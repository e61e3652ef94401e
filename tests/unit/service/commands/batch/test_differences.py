from __future__ import annotations

from typing import Any

import pytest

from service.commands.batch.differences import differences


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        ({"options": {"top_k": 2}}, {"options": {"top_k": 5}}, ["--top-k was 5 and is 2"]),
        (
            {"options": {"normalize": True}},
            {"options": {"normalize": False}},
            ["--normalize was off and is on"],
        ),
        (
            {"model": {"labels": ["cat"]}},
            {"model": {"labels": ["dog"]}},
            ["the model's labels are others"],
        ),
        (
            {"model": {"input": {"mean": [0.5, 0.4, 0.3], "crop_pct": 0.9}}},
            {"model": {"input": {"mean": [0.1, 0.2, 0.3]}}},
            [
                "the input's mean was 0.1, 0.2, 0.3 and is 0.5, 0.4, 0.3",
                "the input's crop pct was none and is 0.9",
            ],
        ),
        (
            {"model": {"weights_sha256": "ab" * 32}},
            {"model": {"weights_sha256": None}},
            ["the SHA-256 of the weights was none and is abababababab"],
        ),
        ({"model": {"name": "demo"}}, {}, ["it states no model"]),
    ],
)
def test_a_difference_is_told_in_words(
    ours: dict[str, Any], theirs: dict[str, Any], said: list[str]
) -> None:
    assert list(differences(ours, theirs)) == said

from __future__ import annotations

import pytest

from service.commands.batch.datasets.label_paths import LabelPaths
from service.commands.console.exits import RefusedError


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["photos/a.jpg", "photos/b.PNG"], ["a.txt", "b.txt"]),
        (["photos/a/1.jpg", "photos/b/1.jpg"], ["a/1.txt", "b/1.txt"]),
        (["photos/a.jpg"], ["a.txt"]),
        (["/photos/a.jpg", "s3://bucket/b.jpg"], ["photos/a.txt", "s3/bucket/b.txt"]),
        (["s3://bucket/in/a.jpg", "s3://bucket/in/b/c.jpg"], ["a.txt", "b/c.txt"]),
        (["a.tar/x/1.jpg", "a.tar/../2.jpg"], ["a.tar/x/1.txt", "2.txt"]),
        (["b.parquet#0", "b.parquet#1"], ["b.parquet#0.txt", "b.parquet#1.txt"]),
        (["a.b/c.d.jpg", "a.b/c"], ["c.d.txt", "c.txt"]),
        ([], []),
    ],
)
def test_labels_are_named_as_the_images_are(paths: list[str], expected: list[str]) -> None:
    assert [LabelPaths(paths).of(path) for path in paths] == expected


@pytest.mark.parametrize("other", ["photos/a.jpeg", "photos/a.JPG", "./photos/x/../a.png"])
def test_two_images_never_share_labels(other: str) -> None:
    with pytest.raises(RefusedError, match=r"photos/a.jpg and .* would share labels/a.txt"):
        LabelPaths(["photos/a.jpg", other])

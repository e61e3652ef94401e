from __future__ import annotations

import pytest

from service.commands.console.progress import ImageProgress


def test_the_time_until_the_first_images_says_nothing_about_the_rest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = 0.0
    with ImageProgress(1000, "overlock batch", clock=lambda: now) as progress:
        for seconds in (20.0, 5.0, 5.0):
            now += seconds
            progress.advance(50)
    assert capsys.readouterr().err.splitlines() == [
        "overlock batch: 50 of 1000 images.",
        "overlock batch: 150 of 1000 images, 10 a second, about 01:25 left.",
    ]

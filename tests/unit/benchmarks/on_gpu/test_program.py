from __future__ import annotations

from benchmarks.on_gpu.program import SECTIONS
from benchmarks.on_gpu.report import ALL_SECONDS


def test_the_sections_times_fill_the_whole_time_and_no_more() -> None:
    assert sum(section.seconds for section in SECTIONS) == ALL_SECONDS


def test_what_shares_a_network_comes_together() -> None:
    """It is released after the last of them, before other sections report their memory."""
    sharing = [place for place, section in enumerate(SECTIONS) if section.release is not None]
    assert sharing == list(range(sharing[0], sharing[-1] + 1))

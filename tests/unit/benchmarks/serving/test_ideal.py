from __future__ import annotations

import pytest

from benchmarks.serving.ideal import ideal_latencies, ideal_per_second
from benchmarks.serving.simulated_device import DeviceCost

COST = DeviceCost(fixed_seconds=0.005, per_image_seconds=0.0005)


def test_a_lone_request_takes_its_decoding_and_a_batch_of_one() -> None:
    assert ideal_latencies([1.0], COST, decode_seconds=0.004) == [pytest.approx(0.0095)]


def test_what_arrives_during_a_batch_shares_the_next_one() -> None:
    latencies = ideal_latencies([0.0, 0.001, 0.002], COST, decode_seconds=0.0)
    # The first runs alone until 5.5 ms; the others together for 6 ms.
    assert latencies == pytest.approx([0.0055, 0.0105, 0.0095])


def test_a_batch_has_sixteen_places() -> None:
    latencies = ideal_latencies([0.0] * 17, COST, decode_seconds=0.0)
    assert latencies[15] == pytest.approx(0.013)
    assert latencies[16] == pytest.approx(0.013 + 0.0055)


def test_one_core_decodes_in_order() -> None:
    # Two that come together: the second is decoded at 8 ms, while the first is on the device.
    latencies = ideal_latencies([0.0, 0.0], COST, decode_seconds=0.004)
    assert latencies == pytest.approx([0.0095, 0.0095 + 0.0055])


@pytest.mark.parametrize(
    ("concurrency", "decode_seconds", "per_second"),
    [
        (1, 0.0, 1 / 0.0055),
        (1, 0.004, 1 / 0.0095),
        (32, 0.0, 16 / 0.013),  # full batches
        (32, 0.004, 1 / 0.004),  # decoding limits
    ],
)
def test_a_closed_loop_is_bound_by_the_device_or_by_decoding(
    concurrency: int, decode_seconds: float, per_second: float
) -> None:
    # A start of some milliseconds in a run of seconds.
    assert ideal_per_second(concurrency, COST, decode_seconds) == pytest.approx(
        per_second, rel=5e-3
    )

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.on_gpu.saturation import Snapshot, usage_between, what_saturates
from benchmarks.serving.processes import ThreadSeconds

IDLE = ThreadSeconds(0.0, 0.0)
BEFORE = Snapshot(
    moment=100.0,
    images=0,
    batches=0,
    device_seconds=0.0,
    compilations=0,
    workers=(IDLE, IDLE),
    engine=IDLE,
    generators_seconds=0.0,
    cores_seconds=0.0,
)


def test_everything_is_set_against_its_own_limit() -> None:
    after = replace(
        BEFORE,
        moment=105.0,
        device_seconds=4.5,
        workers=(ThreadSeconds(1.0, 6.0), ThreadSeconds(4.0, 4.0)),
        engine=ThreadSeconds(2.0, 1.5),
        generators_seconds=6.0,
        cores_seconds=40.0,
    )
    usage = usage_between(BEFORE, after, cores=16, decoding_threads=2, generators=3)
    assert usage.workers_cores == pytest.approx(15.0 / 5)
    assert usage.engine_cores == pytest.approx(3.5 / 5)
    assert usage.generators_cores == pytest.approx(6.0 / 5)
    assert usage.shares == pytest.approx(
        {
            "the device": 0.9,
            "the engine's process": 0.7,
            "the fullest HTTP worker's event loop": 0.8,
            "the HTTP workers' decoding threads": 0.5,
            "the load generators": 0.4,
            "all cores": 0.5,
        }
    )


def test_all_that_is_at_its_limit_is_named_the_fullest_first() -> None:
    shares = {"the device": 0.9, "all cores": 0.97, "the engine's process": 0.89}
    assert what_saturates(shares) == "all cores (97%), the device (90%)"


def test_where_nothing_is_at_its_limit_the_nearest_is_named() -> None:
    shares = {"the device": 0.5, "all cores": 0.7}
    assert what_saturates(shares) == "nothing; all cores comes nearest (70%)"

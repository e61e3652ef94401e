from __future__ import annotations

from benchmarks.serving.peer_work import MODEL
from benchmarks.serving.plan import THOROUGH, WORKLOADS, Plan, rates_of
from model.config import CLASSIFIERS
from model.images.preprocess import resized_size


def test_the_light_workload_needs_no_resizing() -> None:
    light = WORKLOADS[1]
    short_side = CLASSIFIERS[MODEL].geometry.resize_short_side
    assert resized_size(light.width, light.height, short_side) == (light.width, light.height)


def test_a_thinned_plan_keeps_the_highest_rate() -> None:
    thin = Plan(
        repeats=1, seconds=1.0, rate_step=3, overload_seconds=1.0, real_seconds=1.0, real_turns=1
    )
    for workload in WORKLOADS:
        rates = rates_of(workload, thin)
        assert rates[-1] == workload.rates[-1]
        assert list(rates) == sorted(rates)
        assert set(rates) <= set(workload.rates)
        assert rates_of(workload, THOROUGH) == workload.rates

from __future__ import annotations

from dataclasses import replace

import pytest

from model.config import Task
from service.commands.plan.replica import ReplicaSetup, Target, simulate
from service.commands.plan.search import (
    Demand,
    ImpossibleTargetError,
    fewest_replicas,
    make_plan,
    usable_limits,
)
from service.engine.scheduling.cost_model import AffineCost

REQUESTS = 1000  # both sides of every comparison are simulated with as many

SETUP = ReplicaSetup(
    Task.CLASSIFY,
    AffineCost(0.005, 0.0005),
    batch_limit=16,
    max_waiting=256,
    timeout_seconds=30.0,
)


def demand(per_second: float, p99_seconds: float, max_load: float = 1.0) -> Demand:
    return Demand(per_second, Target(p99_seconds, 0.999), max_load)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("per_second", "p99_seconds"), [(3.0, 0.5), (2000.0, 0.0125), (5000.0, 0.025), (90_000.0, 0.1)]
)
def test_so_many_replicas_meet_the_target_and_one_fewer_does_not(
    per_second: float, p99_seconds: float
) -> None:
    plan = make_plan(SETUP, demand(per_second, p99_seconds), requests=REQUESTS)
    chosen = replace(SETUP, batch_limit=plan.batch_limit)
    for option, enough in ((plan.needed, True), (plan.one_spare, True), (plan.one_lost, False)):
        if option is None:
            assert plan.needed.replicas == 1
            continue
        alone = simulate(chosen, per_second / option.replicas, requests=REQUESTS)
        assert option.simulated == alone
        assert alone.p99_seconds is not None
        met = alone.p99_seconds <= p99_seconds and alone.answered_fraction >= 0.999
        assert (met and alone.load <= 1.0) is enough, option
    assert plan.one_spare.replicas == plan.needed.replicas + 1


def test_no_other_limit_needs_fewer_replicas_and_no_smaller_one_as_few() -> None:
    plan = make_plan(SETUP, demand(5000.0, 0.2), requests=REQUESTS)
    assert list(plan.by_batch_limit) == [1, 2, 4, 8, 16]
    for limit, option in plan.by_batch_limit.items():
        more = option.replicas > plan.needed.replicas
        assert more if limit < plan.batch_limit else option.replicas >= plan.needed.replicas


def test_a_guess_only_saves_time() -> None:
    found = fewest_replicas(SETUP, demand(5000.0, 0.0195), requests=REQUESTS)
    for guess in (1, found - 1, found, 40):
        guessed = fewest_replicas(SETUP, demand(5000.0, 0.0195), requests=REQUESTS, guess=guess)
        assert guessed == found, guess


@pytest.mark.parametrize(("max_load", "replicas"), [(1.0, 10), (0.5, 20), (0.33, 31)])
def test_no_replica_gets_more_than_its_load(max_load: float, replicas: int) -> None:
    """Full batches of 16 do 1230.8 requests a second."""
    patient = Demand(12_307.0, Target(10.0, 0.9), max_load)
    assert fewest_replicas(SETUP, patient, requests=REQUESTS) == replicas


def test_less_time_than_one_image_takes_alone_is_impossible() -> None:
    with pytest.raises(
        ImpossibleTargetError, match=r"p99 of 5 ms .* takes 5\.5 ms on the device\."
    ):
        make_plan(SETUP, demand(1.0, 0.005))
    around = replace(SETUP, overhead_seconds=0.01)
    with pytest.raises(
        ImpossibleTargetError, match=r"takes 5\.5 ms on the device and 10 ms around"
    ):
        make_plan(around, demand(1.0, 0.015))
    with pytest.raises(ImpossibleTargetError, match=r"timeout of 4 ms .* 5\.5 ms"):
        make_plan(replace(SETUP, timeout_seconds=0.004), demand(1.0, 0.1))


@pytest.mark.slow
def test_exactly_the_time_of_one_image_asks_for_idle_replicas() -> None:
    plan = make_plan(replace(SETUP, batch_limit=1), demand(1000.0, 0.0055), requests=4000)
    # One request in a hundred may find the device busy.
    assert plan.needed.simulated.utilisation == pytest.approx(0.01, rel=0.25)


def test_answering_each_and_every_one_may_be_impossible() -> None:
    """Who comes while the device works is refused, with a timeout of little more than a batch."""
    setup = replace(SETUP, timeout_seconds=0.0056)
    each = Demand(1000.0, Target(0.0056, 1.0), 1.0)
    with pytest.raises(
        ImpossibleTargetError, match=r"all but idle, .* limit of 256 or the timeout"
    ):
        fewest_replicas(setup, each, requests=20_000)


def test_batches_that_the_scheduler_finds_too_long_are_not_looked_at() -> None:
    assert usable_limits(replace(SETUP, cost=AffineCost(0.1, 0.3))) == (1, 2, 4)
    assert usable_limits(replace(SETUP, cost=AffineCost(5.0, 1.0))) == (1,)
    assert usable_limits(replace(SETUP, batch_limit=12)) == (1, 2, 4, 8, 12)

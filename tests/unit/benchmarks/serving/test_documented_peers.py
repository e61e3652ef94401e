"""The peers with the decoding of their own examples: same pixels, same set-up, few minutes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.serving import run
from benchmarks.serving.contestants import PEERS, Contestant, as_documented
from benchmarks.serving.curves import (
    JUDGED_CONCURRENCY,
    JUDGED_RATE,
    Measurement,
    Turn,
)
from benchmarks.serving.payload import Payload, draw_payloads
from benchmarks.serving.peer_work import (
    DECODER_VARIABLE,
    DOCUMENTED,
    chosen_decoder,
    decode,
    decode_as_documented,
)
from benchmarks.serving.plan import THOROUGH, WORKLOADS, Workload
from benchmarks.serving.run import measure_documented
from benchmarks.serving.running_server import ServerFailedError
from support.documents import ROOT

ADDED_SECONDS = 300.0
"""Time that these contestants may add to a run; half of it is for their starts."""


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_the_documented_decoder_gives_the_same_pixels(workload: Workload) -> None:
    for payload in draw_payloads(workload.width, workload.height):
        np.testing.assert_array_equal(decode_as_documented(payload.body), decode(payload.body))


def test_the_environment_names_the_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DECODER_VARIABLE, raising=False)
    assert chosen_decoder() is decode
    monkeypatch.setenv(DECODER_VARIABLE, DOCUMENTED)
    assert chosen_decoder() is decode_as_documented
    monkeypatch.setenv(DECODER_VARIABLE, "another")
    with pytest.raises(KeyError):
        chosen_decoder()


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_documented_peer_differs_in_its_decoder_alone(peer: Contestant) -> None:
    documented = as_documented(peer)
    assert documented.variables == peer.variables | {DECODER_VARIABLE: DOCUMENTED}
    same = dataclasses.replace(documented, name=peer.name, note=peer.note, variables=peer.variables)
    assert same == peer
    assert documented.name != peer.name


@pytest.mark.parametrize(
    "path", sorted((ROOT / "benchmarks/serving/peers").glob("*.py")), ids=lambda path: path.stem
)
def test_every_peer_takes_the_decoder_of_its_environment(path: Path) -> None:
    assert "\ndecode = chosen_decoder()\n" in path.read_text("utf-8")


def documented_turns(
    monkeypatch: pytest.MonkeyPatch, fails: str = ""
) -> tuple[list[Turn], Sequence[str]]:
    """Return the turns of all documented peers, and the noted failures; nothing is started."""
    turns: list[Turn] = []
    failures: list[str] = []

    def note(turn: Turn) -> list[Measurement]:
        turns.append(turn)
        if turn.contestant.name == fails:
            raise ServerFailedError(f"{fails} has failed")
        return []

    monkeypatch.setattr(run, "measure_turn", note)
    payloads: dict[str, list[Payload]] = {each.name: [] for each in WORKLOADS}
    measure_documented([*map(as_documented, PEERS)], payloads, THOROUGH, failures)
    return turns, failures


def test_documented_peers_are_measured_under_the_judged_loads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns, failures = documented_turns(monkeypatch)
    assert len(turns) == len(PEERS) * len(WORKLOADS)
    assert {tuple(turn.concurrencies) for turn in turns} == {(JUDGED_CONCURRENCY,)}
    assert {tuple(turn.rates) for turn in turns} == {(JUDGED_RATE,)}
    loads = sum(len(turn.concurrencies) + len(turn.rates) for turn in turns)
    assert loads * THOROUGH.seconds <= ADDED_SECONDS / 2
    assert failures == []


def test_a_failure_of_one_is_noted_and_the_others_are_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = as_documented(PEERS[0]).name
    turns, failures = documented_turns(monkeypatch, fails=name)
    assert failures == [f"{name} has failed"] * len(WORKLOADS)
    assert len(turns) == len(PEERS) * len(WORKLOADS)

"""Which contestants take turns, and how the fastest forms are chosen."""

from __future__ import annotations

import pytest

from benchmarks.neighbours.forms import (
    ALWAYS_SERVED,
    COMPARED,
    DTYPES,
    GROUPS,
    REFERENCE,
    Contestant,
    Form,
    Measurement,
    contestants_of,
    fastest,
    forms_of,
)
from benchmarks.neighbours.networks import NETWORKS, is_ours


def timed(network: str, runtime: str, dtype: str, *milliseconds: float) -> Measurement:
    seconds = tuple(each / 1e3 for each in milliseconds)
    return Measurement(Contestant(network, Form(runtime, dtype)), 8, seconds, 0.0)


@pytest.mark.parametrize("network", COMPARED)
@pytest.mark.parametrize("batch", [1, 8])
def test_every_network_has_its_reference_and_every_runtime(network: str, batch: int) -> None:
    forms = forms_of(network, batch)
    assert REFERENCE in forms
    assert len(set(forms)) == len(forms)
    assert ("served" in {form.runtime for form in forms}) == is_ours(network)
    assert {"openvino", "onnxruntime"} <= {form.runtime for form in forms}
    assert Form("onnxruntime", "bfloat16") not in forms


def test_one_image_is_not_shared_among_streams() -> None:
    assert "openvino-streams" not in {form.runtime for form in forms_of("convnext_t", 1)}
    assert "openvino-streams" in {form.runtime for form in forms_of("convnext_t", 8)}


def test_the_fastest_form_is_by_the_median_of_turns() -> None:
    rows = [
        timed("convnext_t", "openvino", "bfloat16", 50, 51, 52),
        timed("convnext_t", "compiled", "bfloat16", 10, 60, 61),
        timed("convnext_t", "eager", "float32", 90, 90, 90),
    ]
    assert fastest(rows) == {
        ("convnext_t", "bfloat16"): rows[0].contestant,
        ("convnext_t", "float32"): rows[2].contestant,
    }


def test_the_final_group_has_every_networks_fastest_form_and_ours_as_served() -> None:
    rows = [
        timed(network, runtime, dtype, milliseconds)
        for network in COMPARED
        for dtype in DTYPES
        for runtime, milliseconds in (("eager", 30), ("openvino", 20), ("served", 40))
    ]
    final = contestants_of(GROUPS["best:8"], rows)
    fast = {Contestant(name, Form("openvino", dtype)) for name in COMPARED for dtype in DTYPES}
    assert fast <= set(final)
    ours = {name for name in NETWORKS if is_ours(name)}
    assert {each.network for each in final if each.form.runtime == "served"} == ours
    assert set(ALWAYS_SERVED) <= ours
    assert len(final) == len(set(final)) == len(fast) + 2 * len(ours)


def test_the_final_group_asks_for_the_groups_before_it() -> None:
    rows = [timed("convnext_t", "eager", dtype, 30) for dtype in DTYPES]
    with pytest.raises(ValueError, match="no results yet: overlock_xt:8, overlock_t:8, convnext_b"):
        contestants_of(GROUPS["best:8"], rows)


def test_a_processor_without_bfloat16_compares_float32_alone() -> None:
    alone = contestants_of(GROUPS["overlock_t:8"], (), ["float32"])
    assert {each.form.dtype for each in alone} == {"float32"}
    rows = [timed(each, "openvino", "float32", 20) for each in COMPARED]
    final = contestants_of(GROUPS["best:8"], rows, ["float32"])
    assert {each.form.dtype for each in final} == {"float32"}
    with pytest.raises(ValueError, match="no results yet"):
        contestants_of(GROUPS["best:8"], rows)

from __future__ import annotations

import pytest

from service.api.errors import InvalidParameterError, UnknownModelError
from service.processes.selection import RELOAD, Action, Change, Selection
from service.settings import SettingsError

BOTH = ("birds", "moths")


def load(name: str) -> Change:
    return Change(Action.LOAD, name)


def unload(name: str) -> Change:
    return Change(Action.UNLOAD, name)


def test_at_the_start_every_model_is_served() -> None:
    assert Selection().after(RELOAD, BOTH) == Selection(BOTH)


def test_an_unloaded_model_comes_back_by_a_load_and_not_by_a_reload() -> None:
    without = Selection(BOTH).after(unload("birds"), BOTH)
    assert without == Selection(BOTH, frozenset({"birds"}))
    assert without.after(RELOAD, BOTH) == without
    assert without.after(load("moths"), BOTH) == without
    assert without.after(load("birds"), BOTH) == Selection(BOTH)


def test_a_change_has_the_models_that_are_configured_by_then() -> None:
    more = (*BOTH, "beetles")
    assert Selection(BOTH).after(load("beetles"), more) == Selection(more)
    assert Selection(BOTH).after(unload("beetles"), more).unloaded == {"beetles"}
    assert Selection(BOTH).after(unload("birds"), ("moths",)) == Selection(("moths",))
    without = Selection(BOTH, frozenset({"birds"}))
    # Named again later, it is a new model.
    assert without.after(RELOAD, ("moths",)).after(RELOAD, BOTH) == Selection(BOTH)


@pytest.mark.parametrize("change", [load("beetles"), unload("beetles")])
def test_an_unknown_name_is_refused_with_the_configured_ones(change: Change) -> None:
    with pytest.raises(UnknownModelError, match="No model 'beetles' is configured; there are bird"):
        Selection(BOTH).after(change, BOTH)


def test_the_last_model_cannot_be_unloaded() -> None:
    without = Selection(BOTH, frozenset({"birds"}))
    with pytest.raises(InvalidParameterError, match="moths is the only model that is served"):
        without.after(unload("moths"), BOTH)


def test_a_configuration_with_unloaded_models_alone_is_refused() -> None:
    without = Selection(BOTH, frozenset({"birds"}))
    with pytest.raises(SettingsError, match=r"models are unloaded: birds\. Load one of them"):
        without.after(RELOAD, ("birds",))

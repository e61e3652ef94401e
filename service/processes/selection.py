"""Which of the configured models are served: all but those that were unloaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from service.api.errors import InvalidParameterError, UnknownModelError
from service.settings import SettingsError


class Action(StrEnum):
    """Ways to replace the engines that serve."""

    RELOAD = "reload"
    LOAD = "load"
    UNLOAD = "unload"


class Change(msgspec.Struct, frozen=True):
    """A change that the supervisor is asked for; each one reads the models anew.

    Attributes:
        action: what to do.
        name: of the model to load or unload; empty for a reload.
    """

    action: Action
    name: str = ""

    def __str__(self) -> str:
        return f"{self.action.capitalize()} of {self.name}" if self.name else "Reload"


RELOAD = Change(Action.RELOAD)


@dataclass(frozen=True)
class Selection:
    """The models of a generation.

    Attributes:
        configured: names of the models that the settings state.
        unloaded: those of them that are not served.
    """

    configured: tuple[str, ...] = ()
    unloaded: frozenset[str] = frozenset()

    def after(self, change: Change, configured: Sequence[str]) -> Selection:
        """Return the next generation's models.

        Args:
            change: that makes it.
            configured: names of the models that the settings state by now.

        Raises:
            UnknownModelError: if no model of the change's name is configured.
            InvalidParameterError: if the only model that is served is to be unloaded.
            SettingsError: if all models that are left in the configuration are unloaded.
        """
        known = {*configured}
        if change.action is Action.UNLOAD:
            known |= {*self.configured}  # the models file may no longer have it
        if change.name and change.name not in known:
            raise unknown_model(change.name, configured)
        unloaded = self.unloaded - {change.name}
        if change.action is Action.UNLOAD:
            unloaded |= {change.name}
        after = Selection(tuple(configured), unloaded & {*configured})
        if len(after.unloaded) == len(after.configured):
            if change.action is Action.UNLOAD:
                raise InvalidParameterError(
                    f"{change.name} is the only model that is served, and the last one cannot be "
                    "unloaded."
                )
            names = ", ".join(after.configured)
            raise SettingsError(f"All configured models are unloaded: {names}. Load one of them.")
        return after


def unknown_model(name: str, configured: Sequence[str]) -> UnknownModelError:
    """Return the error for a name that no configured model has."""
    return UnknownModelError(f"No model {name!r} is configured; there are {', '.join(configured)}.")

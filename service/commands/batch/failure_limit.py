"""The failed images up to which a finished run counts as a success: ``--max-failed``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from service.commands.console.exits import RefusedError


@dataclass(frozen=True)
class FailureLimit:
    """A number of images, or a percentage of a run's own.

    Attributes:
        text: as it was given.
        value: of either.
        is_percentage: which of them it is.
    """

    text: str
    value: float
    is_percentage: bool

    def allows(self, failed: int, images: int) -> bool:
        """Tell whether a run's failed images are within the limit."""
        return failed <= (self.value * images / 100 if self.is_percentage else self.value)


NO_FAILURES = FailureLimit("0", 0.0, is_percentage=False)


def failure_limit_of(text: str) -> FailureLimit:
    """Read ``N`` or ``P%``.

    Raises:
        RefusedError: for anything else.
    """
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)(%?)", text, re.ASCII)
    is_percentage = found is not None and found[2] == "%"
    if found is None or ("." in found[1] and not is_percentage):
        raise RefusedError(
            f"--max-failed is {text}; it has to be a number of images such as 10, or a percentage "
            "such as 0.5%."
        )
    if is_percentage and float(found[1]) > 100:
        raise RefusedError(f"--max-failed is {text}; a percentage is 100% at most.")
    return FailureLimit(text, float(found[1]), is_percentage)

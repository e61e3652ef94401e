"""How long to wait before the next attempt."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

FIRST_WAIT_SECONDS = 0.25
LONGEST_WAIT_SECONDS = 10.0


def stated_seconds(retry_after: str | None) -> float | None:
    """Read a Retry-After header: seconds or a date; None if there is none that makes sense."""
    if retry_after is None:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def backoff_seconds(failures: int) -> float:
    """Return a wait that doubles with every failure, the half of it left to chance.

    Clients that failed together do not come again together.

    Args:
        failures: so far, from 1.
    """
    whole = min(FIRST_WAIT_SECONDS * 2.0 ** (failures - 1), LONGEST_WAIT_SECONDS)
    return whole * random.uniform(0.5, 1.0)  # noqa: S311 - nobody gains by guessing it

"""The differences between what two runs were made of, in a user's words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from service.settings import PREFIX

OPTIONS = {
    "geometry": f"{PREFIX}SEGMENT_GEOMETRY",
    "masks": "masks (--no-masks)",
    "max_image_pixels": f"{PREFIX}MAX_IMAGE_PIXELS",
    "shards": "the N of --shard",
}
"""Options that are not named as the command line has them."""

FACTS = {
    "format": "the version of the files",
    "listing_sha256": "other images, or images that have changed since",
    "dtype": "--dtype",
    "weights_sha256": "the SHA-256 of the weights",
}

SHOWN_NUMBERS = 4
"""Numbers of a list that is shown, of channels for instance; of others it is said that they
differ."""


def differences(
    ours: dict[str, Any], theirs: dict[str, Any], group: str | None = None
) -> Iterator[str]:
    """Yield a clause for each fact that differs.

    Args:
        ours: of this run, as JSON has it; facts that it lacks are not compared.
        theirs: of results that are there.
        group: key of the fact that these are parts of.
    """
    for key, value in ours.items():
        other = theirs.get(key)
        if value == other:
            continue
        if isinstance(value, dict):
            if isinstance(other, dict):
                yield from differences(value, other, key)
            else:
                yield f"it states no {key}"
        elif key == "listing_sha256":
            yield FACTS[key]
        elif _is_long(value) or _is_long(other):
            yield f"{_name(key, group)} are others"
        else:
            yield f"{_name(key, group)} was {_shown(other)} and is {_shown(value)}"


def _name(key: str, group: str | None) -> str:
    if group == "options":
        return OPTIONS.get(key, f"--{key.replace('_', '-')}")
    words = key.replace("_", " ")
    return FACTS.get(key, f"the {words}" if group is None else f"the {group}'s {words}")


def _is_long(value: Any) -> bool:
    return isinstance(value, list) and (
        len(value) > SHOWN_NUMBERS or any(isinstance(each, str) for each in value)
    )


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return value[:12] if isinstance(value, str) and len(value) == 64 else str(value)

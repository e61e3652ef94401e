"""Deliberate mistakes in manifests that are otherwise right."""

from __future__ import annotations

from typing import Any, TypeVar

from support.manifests import Manifests

GONE = object()
"""The mistake is that something is missing."""

AnyManifests = TypeVar("AnyManifests", bound=Manifests)


def changed(found: AnyManifests, kind: str, where: str, what: Any) -> AnyManifests:
    """Make a mistake; a ~ in a path is a / of a label's name."""
    place: Any = found.one(kind)
    *steps, last = [step.replace("~", "/") for step in where.split("/")]
    for step in steps:
        place = place[int(step) if isinstance(place, list) else step]
    key = int(last) if isinstance(place, list) else last
    if what is GONE:
        del place[key]
    else:
        assert isinstance(place, list) or place.get(key, GONE) != what
        place[key] = what
    return found

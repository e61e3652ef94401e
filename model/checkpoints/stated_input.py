"""What a checkpoint states of its network's input, in timm's words.

A value that makes no sense is ignored with a line in the log. It must not stop a start: a published
file cannot be changed by its users.

Source: timm 0.6.12, ``timm/data/config.py`` and the arguments of its ``train.py``; timm 1.0,
``timm/models/_hub.py``.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from model.checkpoints.stand_ins import InertNamespace
from model.config import Interpolation
from model.images.input_config import InputOptions, averaged

logger = logging.getLogger(__name__)

PLACES = ("args", "pretrained_cfg", "default_cfg", "hyper_parameters", "hparams", "config", "cfg")
"""Entries of a file that can hold the words, the first one that states a value counts."""

NESTED_PLACES = (*PLACES, "data", "model_args")
"""Entries of these that can hold them too, such as yacs' ``DATA``."""

MAX_DEPTH = 3
MAX_VALUES = 8
MAX_SHOWN_CHARACTERS = 60

NO_INTERPOLATION = ("", "random")
"""timm draws one for each image of a training; its evaluation takes the default."""


class _NonsenseError(ValueError):
    """A value that an input cannot have; the message says why."""


def stated_input(contents: Any, channels: int | None, path: Path) -> InputOptions:
    """Read what a file states of the network's input.

    Args:
        contents: mapping with the entries of ``PLACES``: mappings, namespaces or JSON texts.
        channels: of the network's input; None if they are not known.
        path: of the file, for the log.
    """
    found: dict[str, Any] = {}
    for words in _places(_entries(contents), PLACES, {}):
        for word, (name, read) in _WORDS.items():
            value = _plain(words.get(word))
            if name in found or value is None:
                continue
            try:
                if word in _PAIR and not words.keys() >= _PAIR:
                    raise _NonsenseError("mean and std count where both are stated")
                read_value = read(value, channels)
                InputOptions(**{name: read_value})
            except ValueError as error:
                logger.warning(
                    "%s states %s = %s, which is ignored: %s.", path, word, _shown(value), error
                )
                continue
            if read_value is not None:
                found[name] = read_value
    return InputOptions(**found)


def either(first: InputOptions, second: InputOptions) -> InputOptions:
    """Return the first one's values, and the second one's where it states none."""
    stated = {name: getattr(second, name) for name in second.stated}
    return InputOptions(**stated | {name: getattr(first, name) for name in first.stated})


def _places(
    entries: Mapping[str, Any], names: tuple[str, ...], seen: dict[int, Any], depth: int = 0
) -> Iterator[Mapping[str, Any]]:
    """Yield the mappings under some names, each once, their keys in lower case."""
    for place in (entries[name] for name in names if name in entries):
        if id(place) in seen or depth == MAX_DEPTH:
            continue
        seen[id(place)] = place  # kept, or another object could get its id
        inner = _entries(place)
        yield inner
        yield from _places(inner, NESTED_PLACES, seen, depth + 1)


def _entries(value: Any) -> dict[str, Any]:
    """Return a mapping's or a namespace's entries, their keys in lower case."""
    value = _opened(value)
    if isinstance(value, InertNamespace):
        value = value.values
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = _from_json(value)
    if not isinstance(value, Mapping):
        return {}
    return {key.lower(): entry for key, entry in value.items() if isinstance(key, str)}


def _opened(value: Any) -> Any:
    """Return what OmegaConf keeps in a node or a container."""
    if isinstance(value, InertNamespace):
        return value.values.get("_val", value.values.get("_content", value))
    return value


def _plain(value: Any) -> Any:
    """Return a value as JSON has it; a text that is no JSON stays one."""
    value = _opened(value)
    if isinstance(value, str) and (read := _from_json(value)) is not None:
        value = read
    if isinstance(value, list | tuple):
        return [_opened(each) for each in value[:MAX_VALUES]]
    return value


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _size(value: Any, _: int | None) -> int:
    """Return a square's side: of one number, of two sides, or of channels and two sides."""
    if isinstance(value, str):
        value = [int(side) for side in re.findall(r"\b\d{1,6}\b", value)]
    sides = _as_list(value)
    sides = sides[1:] if len(sides) == 3 else sides
    if len(sides) not in {1, 2} or not all(
        type(side) is int and side.bit_length() < 32 for side in sides
    ):
        raise _NonsenseError("it is no size in pixels")
    if sides[0] != sides[-1]:
        raise _NonsenseError("a classifier's input is square")
    return int(sides[0])


def _crop_pct(value: Any, _: int | None) -> float:
    (number,) = _numbers([value])
    return number


def _interpolation(value: Any, _: int | None) -> str | None:
    known = get_args(Interpolation)
    if not isinstance(value, str) or value.lower() not in {*known, *NO_INTERPOLATION}:
        raise _NonsenseError(f"it is {' or '.join(known)}")
    return None if value.lower() in NO_INTERPOLATION else value.lower()


def _statistics(value: Any, channels: int | None) -> tuple[float, ...]:
    """Return a number for each channel; a list of one is that of all, as in timm.

    Three of a grey network are those of the network that it began as, and count on average.
    """
    if isinstance(value, str):
        value = re.split(r"[\s,]+", value.strip("()[] \t\n"))
    numbers = _numbers(_as_list(value))
    if channels is not None and len(numbers) == 1 and isinstance(value, list):
        numbers *= channels
    if channels == 1 and len(numbers) == 3:
        numbers = averaged(numbers, channels)
    if channels is not None and len(numbers) != channels:
        raise _NonsenseError(
            f"the network's input has {channels} {'channel' if channels == 1 else 'channels'}"
        )
    return numbers


def _numbers(values: list[Any]) -> tuple[float, ...]:
    if not values or not all(type(each) in {int, float, str} for each in values):
        raise _NonsenseError("it is not a number")
    try:
        return tuple(map(float, values))
    except (ValueError, OverflowError) as error:
        raise _NonsenseError("it is not a number") from error


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


_WORDS: dict[str, tuple[str, Callable[[Any, int | None], Any]]] = {
    "input_size": ("input_size", _size),
    "img_size": ("input_size", _size),
    "crop_pct": ("crop_pct", _crop_pct),
    "interpolation": ("interpolation", _interpolation),
    "mean": ("mean", _statistics),
    "std": ("std", _statistics),
}
"""timm's words, the ``InputOptions`` that they mean, and how each is read."""

_PAIR = {"mean", "std"}
"""Alone, and as plain numbers, they are often of something else, such as initial weights."""


def _shown(value: Any) -> str:
    """Return a value as one short line, whatever a file made it."""
    if isinstance(value, list):
        return f"[{', '.join(_shown(None if each is value else each) for each in value)}]"
    if type(value) is int and value.bit_length() > 64:
        return "a huge number"
    plain = isinstance(value, str | float | int | None)
    text = ascii(value if plain else getattr(value, "name", type(value).__name__))
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}..."

"""Find a network's weights in what a training script saved, whatever wraps them.

They are the tensors of the one mapping, under the one prefix, in which the authors' first entry
lies (or ours). A file can hold averaged weights (EMA) beside the raw ones; the caller says which
to take; other candidates are refused.

Source: CheckpointSaver of https://github.com/huggingface/pytorch-image-models, EMAHook of
https://github.com/open-mmlab/mmengine, WeightAveraging of
https://github.com/Lightning-AI/pytorch-lightning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from model.checkpoints.inert_arrays import InertArray
from model.checkpoints.stand_ins import Inert

T = TypeVar("T")

WeightsKind = Literal["ema", "raw"]
"""Averaged over the steps of a training, or those of its last step."""

FIRST_ENTRY = r"(?:backbone\.)?patch_embed1\.0\.weight$|backbone\.stem\.layers\.0\.conv\.weight$"
OTHER_ENTRIES = (
    r"(?:backbone\.)?blocks1\.0\.|backbone\.stage1\.0\.|(?:backbone\.)?head\.4\.|head\.classify\."
)
"""Entries that tell the network where the first one is missing, which strict loading reports."""

_FIRST, _OTHER = (
    re.compile(rf"^((?:.*?\.)??)(?:{entries})") for entries in (FIRST_ENTRY, OTHER_ENTRIES)
)
_WRAPPERS = re.compile(r"(?<![^.])(?:module|_orig_mod)\.")
_AVERAGED = re.compile(
    r"(?:^|_)(?:ema|swa|avg|averaged?|shadow)(?:_|\d*$)"
    r"|(?<![A-Z])(?:EMA|SWA|Ema|Swa)(?![a-z])|Averag(?:ed?|ing)(?![a-z])"
)
_STATISTICS = re.compile(r"\.(?:running_mean|running_var)$")
"""Of norms: not parameters, so that many averages leave them out."""

_BESIDE = re.compile(
    r"^(?:n_averaged$|steps?$|initted$|ema_\w+$|data_preprocessor\.|criterion\.|loss(?:_\w+)?\.|metrics?\."
    r"|(?:train|val|test)_\w+\.)"
)
"""What training stores among the weights: averaging, preprocessing, losses and metrics."""

HOW_TO_SAVE = "Save the weights alone: torch.save(model.state_dict(), 'weights.pth')."

MAX_DEPTH = 32
"""Of mappings and lists in each other; weights are not sought further inside."""

MAX_LISTED = 10
MAX_NAME_CHARACTERS = 200


_Place = tuple[tuple[str, ...], Mapping[Any, Any]]
"""A mapping behind the keys that lead to it."""


class WeightsError(ValueError):
    """There are no weights of the network, or more than one; the message is a predicate."""


@dataclass(frozen=True)
class FoundWeights(Generic[T]):
    """The weights of a file.

    Attributes:
        state: by their names in the file, without prefixes.
        kind: which weights these are.
        has_both: whether the file holds both kinds.
    """

    state: dict[str, T]
    kind: WeightsKind
    has_both: bool


@dataclass(frozen=True, eq=False)
class _Candidate:
    where: tuple[str, ...]
    prefix: str
    mapping: Mapping[Any, Any]

    @property
    def name(self) -> str:
        at = "".join(f"[{key!r}]" for key in self.where) or "the file itself"
        return f"{at} under '{self.prefix}'" if self.prefix else at

    def is_averaged(self) -> bool:
        """Tell by its place, by its prefix, or by the counter of PyTorch's AveragedModel."""
        return any(map(_AVERAGED.search, self.where)) or self.is_marked()

    def is_marked(self) -> bool:
        """Tell by what is in the mapping itself."""
        names = (_WRAPPERS.sub("", key) for key in self.mapping if isinstance(key, str))
        return any(map(_AVERAGED.search, self.prefix.split("."))) or (
            f"{self.prefix}n_averaged" in names
        )


def find_weights(contents: Any, kind: type[T], *, ema: bool = True) -> FoundWeights[T]:
    """Find the weights, without the prefixes of their names.

    Args:
        contents: of the file, at any depth mappings, lists, tensors and inert objects.
        kind: of its tensors.
        ema: whether to prefer averaged weights; otherwise the raw ones are required.

    Raises:
        WeightsError: if they are not found, are ambiguous, or contain something else than
            tensors.
    """
    mappings = list(_mappings(contents))
    # Objects count where there are no tensors: DeepSpeed keeps shapes under the same names.
    candidates = next(
        filter(
            None,
            (
                _candidates(mappings, entry, values)
                for values in (kind, (Inert, InertArray))
                for entry in (_FIRST, _OTHER)
            ),
        ),
        [],
    )
    if not candidates:
        raise WeightsError(_why_none(contents, mappings, kind))
    swapped = _is_swapped(contents)
    averaged = [
        one
        for one in candidates
        if (one.where == ("state_dict",) if swapped else _is_averaged(one, candidates))
    ]
    raw = [one for one in candidates if one not in averaged]
    if not ema and not raw:
        raise WeightsError(
            f"holds EMA weights alone, at {listed([one.name for one in averaged])}; the raw ones "
            "are asked for (ema = false or --raw)."
        )
    chosen = _chosen(averaged, raw, ema=ema)
    state = _state(chosen, candidates, kind)
    if chosen in averaged and len(raw) == 1 and not any(map(_STATISTICS.search, state)):
        # An average of the parameters alone is validated with the raw network's statistics.
        beside = _state(raw[0], candidates, kind)
        state |= {name: value for name, value in beside.items() if _STATISTICS.search(name)}
    return FoundWeights(state, "ema" if chosen in averaged else "raw", bool(averaged and raw))


def listed(names: list[str]) -> str:
    """Join at most ten names, each on one line and not too long, and count the rest."""
    shown = ", ".join(map(_printable, names[:MAX_LISTED]))
    rest = len(names) - MAX_LISTED
    return shown if rest <= 0 else f"{shown} and {rest} more"


def _printable(name: str) -> str:
    line = name if name.isprintable() else ascii(name)
    return line if len(line) <= MAX_NAME_CHARACTERS else f"{line[:MAX_NAME_CHARACTERS]}..."


def _mappings(contents: Any) -> Iterator[_Place]:
    """Yield every mapping once, with where it lies, the outer ones first."""
    seen: set[int] = set()
    level: list[tuple[tuple[str, ...], Any]] = [((), contents)]
    for _ in range(MAX_DEPTH):
        inside: list[tuple[tuple[str, ...], Any]] = []
        for where, value in level:
            if id(value) in seen or not isinstance(value, Mapping | list | tuple):
                continue
            seen.add(id(value))
            if isinstance(value, Mapping):
                yield where, value
            pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
            inside += [
                ((*where, _shown(key)), part)
                for key, part in pairs
                if isinstance(part, Mapping | list | tuple) and not _is_optimizer(key)
            ]
        level = inside


def _is_optimizer(key: Any) -> bool:
    return isinstance(key, str) and key.startswith("optim")


def _is_averaged(one: _Candidate, candidates: list[_Candidate]) -> bool:
    """Tell averaged weights; two in one mapping are told apart by what is in it, not by its place.

    The state of ema-pytorch, most often under ``ema``, holds ``ema_model.`` and ``online_model.``.
    """
    sharing = [other for other in candidates if other.mapping is one.mapping]
    within = any(other.is_marked() for other in sharing)
    return one.is_marked() if within else one.is_averaged()


def _candidates(
    mappings: list[_Place], entry: re.Pattern[str], kinds: type | tuple[type, ...]
) -> list[_Candidate]:
    found = []
    for where, mapping in mappings:
        matches = (
            entry.match(_WRAPPERS.sub("", key))
            for key, value in mapping.items()
            if isinstance(key, str) and isinstance(value, kinds)
        )
        prefixes = dict.fromkeys(match[1] for match in matches if match)
        found += [_Candidate(where, prefix, mapping) for prefix in prefixes]
    return found


def _is_swapped(contents: Any) -> bool:
    """Tell whether averaged weights lie in ``state_dict``, and raw ones elsewhere.

    mmengine's EMAHook and Lightning's WeightAveraging swap the two when they save.
    """
    keys = contents.keys() if isinstance(contents, Mapping) else set()
    return "state_dict" in keys and (
        {"message_hub", "ema_state_dict"} <= keys
        or {"averaging_state", "current_model_state"} <= keys
    )


def _chosen(averaged: list[_Candidate], raw: list[_Candidate], *, ema: bool) -> _Candidate:
    for kind in (averaged, raw) if ema else (raw,):
        if len(kind) == 1:
            return kind[0]
        if kind:
            break
    candidates = [*averaged, *raw] if ema else raw
    raise WeightsError(
        f"holds the weights of {len(candidates)} networks, and their names do not say which one "
        f"is {'averaged' if ema else 'the raw one'}: {listed([one.name for one in candidates])}. "
        "Save the one to serve: torch.save(model.state_dict(), 'weights.pth')."
    )


def _state(chosen: _Candidate, candidates: list[_Candidate], kind: type[T]) -> dict[str, T]:
    """Take a candidate's entries; its mapping can hold those of others too."""
    sharing = [other.prefix for other in candidates if other.mapping is chosen.mapping]
    prefixes = sorted(sharing, key=len, reverse=True)
    state: dict[str, T] = {}
    strays, outside = [], []
    for key, value in chosen.mapping.items():
        full = _WRAPPERS.sub("", key) if isinstance(key, str) else ""
        owner = next((prefix for prefix in prefixes if full.startswith(prefix)), None)
        name = full.removeprefix(chosen.prefix)
        if owner not in {None, chosen.prefix} or _BESIDE.match(full) or _BESIDE.match(name):
            continue
        if not isinstance(key, str) or not isinstance(value, kind):
            if owner is not None and "." in name:
                strays.append(f"{key} ({_kind(value)})")
        elif owner is None:
            outside.append(key)
        elif name in state:
            raise WeightsError(f"holds one entry twice: {listed([name, key])}.")
        else:
            state[name] = value
    if strays:
        raise WeightsError(
            f"holds entries that are no tensors where weights should be: {listed(strays)}. "
            f"{HOW_TO_SAVE}"
        )
    if outside:
        raise WeightsError(
            f"holds the weights under '{_printable(chosen.prefix)}', and beside them tensors that "
            f"the network has no use for: {listed(outside)}. {HOW_TO_SAVE}"
        )
    return state


def _why_none(contents: Any, mappings: list[_Place], kind: type) -> str:
    if isinstance(contents, Inert):
        return (
            f"holds an object of the class {_printable(contents.name)}, not weights: most likely a "
            f"whole network was saved. It was not made. {HOW_TO_SAVE}"
        )
    tensors = max((_tensor_names(mapping, kind) for _, mapping in mappings), key=len, default=[])
    if tensors:
        return (
            "is of another network: it has no patch_embed1.0.weight, the first entry of OverLoCK, "
            f"but {listed(tensors)}."
        )
    objects = [
        f"{value.name} at {''.join(f'[{part!r}]' for part in (*where, _shown(key)))}"
        for where, mapping in mappings
        for key, value in mapping.items()
        if isinstance(value, Inert)
    ]
    if objects:
        return (
            f"holds no weights, but objects of classes that are not read: {listed(objects)}. "
            f"They were not made. {HOW_TO_SAVE}"
        )
    return f"holds no weights: it is no mapping from names to tensors. {HOW_TO_SAVE}"


def _tensor_names(mapping: Mapping[Any, Any], kind: type) -> list[str]:
    return [
        key for key, value in mapping.items() if isinstance(key, str) and isinstance(value, kind)
    ]


def _kind(value: Any) -> str:
    if isinstance(value, InertArray):
        return "numpy.ndarray"
    return value.name if isinstance(value, Inert) else type(value).__name__


def _shown(key: Any) -> str:
    return key if isinstance(key, str) else _kind(key) if isinstance(key, Inert) else str(key)

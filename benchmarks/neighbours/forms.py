"""Forms in which a network can be served on a CPU, and groups of contestants that take turns."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.neighbours.networks import NETWORKS, is_ours

DTYPES = ("float32", "bfloat16")
BATCHES = (1, 8)

SERVED, EAGER, COMPILED = "served", "eager", "compiled"
OPENVINO, OPENVINO_STREAMS, ONNXRUNTIME = "openvino", "openvino-streams", "onnxruntime"

FINAL = "best"
"""Name of the group in which every network is in its fastest form."""

COMPARED = ("overlock_xt", "overlock_t", "convnext_t", "convnext_b", "moganet_b")
"""Networks that are timed in all of their forms."""

ALWAYS_SERVED = ("overlock_s", "overlock_b")
"""Ours that take part in the final group as served alone, for the plot."""

TOLERANCES = {"float32": 1e-4, "bfloat16": 1e-1}
"""Largest difference from the eager float32 form that is rounding, over its largest logit."""


@dataclass(frozen=True)
class Form:
    """What runs a network, and its dtype.

    Attributes:
        runtime: "served" (our engine's form), "eager" and "compiled" (PyTorch, channels_last),
            "openvino" (its latency hint), "openvino-streams" (its throughput hint, the batch
            shared among its streams) or "onnxruntime".
        dtype: of weights and most operators.
    """

    runtime: str
    dtype: str


REFERENCE = Form(EAGER, "float32")
"""Every other form's logits are compared with this one's."""


@dataclass(frozen=True)
class Contestant:
    """A network in a form."""

    network: str
    form: Form


@dataclass(frozen=True)
class Group:
    """Contestants that take turns, all with the same number of images.

    Attributes:
        subject: the network whose forms they are, or ``FINAL``.
        batch: images of a pass.
    """

    subject: str
    batch: int

    @property
    def name(self) -> str:
        """As the command line takes it."""
        return f"{self.subject}:{self.batch}"


@dataclass(frozen=True)
class Measurement:
    """The time of a contestant.

    Attributes:
        contestant: network and form.
        batch: images of a pass.
        seconds: of a pass, one number for each turn.
        relative_error: largest difference from the reference over its largest logit.
    """

    contestant: Contestant
    batch: int
    seconds: tuple[float, ...]
    relative_error: float

    @property
    def median_seconds(self) -> float:
        """Of a pass."""
        return statistics.median(self.seconds)

    @property
    def images_per_second(self) -> float:
        """At the median."""
        return self.batch / self.median_seconds


GROUPS = {
    group.name: group
    for subject in (*COMPARED, FINAL)
    for batch in BATCHES
    for group in [Group(subject, batch)]
}
"""The final groups are last: they need the others' results."""


def forms_of(network: str, batch: int) -> list[Form]:
    """Return all forms that a network is timed in.

    Ours are not compiled here: it takes two to four minutes for each dtype and input, and
    ``benchmarks/results/network-compiled-cpu.md`` shows that the served form is faster.

    ONNX Runtime has no convolution in bfloat16 on x86: its fast path
    (``mlas.enable_gemm_fastmath_arm64_bfloat16``) is for ARM.
    """
    runtimes = [SERVED] if is_ours(network) else []
    runtimes.append(EAGER)
    if not is_ours(network):
        runtimes.append(COMPILED)
    runtimes.append(OPENVINO)
    if batch > 1:  # one image cannot be shared among streams
        runtimes.append(OPENVINO_STREAMS)
    forms = [Form(runtime, dtype) for runtime in runtimes for dtype in DTYPES]
    return [*forms, Form(ONNXRUNTIME, "float32")]


def fastest(measurements: Iterable[Measurement]) -> dict[tuple[str, str], Contestant]:
    """Return the fastest contestant for each network and dtype."""
    best: dict[tuple[str, str], Measurement] = {}
    for each in measurements:
        key = (each.contestant.network, each.contestant.form.dtype)
        if key not in best or each.median_seconds < best[key].median_seconds:
            best[key] = each
    return {key: each.contestant for key, each in best.items()}


def contestants_of(
    group: Group, measured: Iterable[Measurement], dtypes: Sequence[str] = DTYPES
) -> list[Contestant]:
    """Return who takes turns in a group.

    Args:
        group: see there.
        measured: results of the networks' own groups with the same batch; only the final group
            needs them.
        dtypes: that are compared, the reference's among them.

    Raises:
        ValueError: if a network of the final group has no results.
    """
    if group.subject != FINAL:
        forms = [form for form in forms_of(group.subject, group.batch) if form.dtype in dtypes]
        return [Contestant(group.subject, form) for form in forms]
    best = fastest(measured)
    missing = [name for name in COMPARED if any((name, dtype) not in best for dtype in dtypes)]
    if missing:
        raise ValueError(
            f"{group.name} takes the fastest forms of other groups; these have no results yet: "
            f"{', '.join(f'{name}:{group.batch}' for name in missing)}."
        )
    served = [Form(SERVED, dtype) for dtype in dtypes]
    chosen = [best[name, dtype] for name in COMPARED for dtype in dtypes]
    ours = [Contestant(name, form) for name in NETWORKS if is_ours(name) for form in served]
    return list(dict.fromkeys([*chosen, *ours]))

"""The measured servers and the commands that start them.

``{python}`` and ``{bin}`` stand for the contestant's environment, ``{port}`` for its port.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from benchmarks.serving.ours.cost_variable import COST_VARIABLE
from benchmarks.serving.peer_work import DECODER_VARIABLE, DOCUMENTED
from benchmarks.serving.simulated_device import DEVICE_COST, MAX_BATCH_SIZE, DeviceCost

TIMEOUT_SECONDS = 10
"""Timeout of a request, for every server that has such a setting."""

PACKAGE = "benchmarks.serving"


@dataclass(frozen=True)
class Contestant:
    """A server.

    Attributes:
        name: in tables and plots.
        requirements: name of its requirements file and environment; None for the project's own.
        command: that starts it.
        path: of the route that classifies an image.
        variables: environment variables beside the usual ones.
        note: its set-up, for the table.
    """

    name: str
    requirements: str | None
    command: tuple[str, ...]
    path: str
    note: str
    variables: dict[str, str] = field(default_factory=dict)


def ours_simulated(
    cost: DeviceCost = DEVICE_COST, timeout_seconds: float = TIMEOUT_SECONDS
) -> Contestant:
    """Return the service with the simulated device."""
    return Contestant(
        name="overlock-service",
        requirements=None,
        command=("{python}", "-m", f"{PACKAGE}.ours.simulated_service"),
        path=f"/v1/classify?timeout={timeout_seconds:g}",
        note="as it comes, one HTTP worker",
        variables={
            COST_VARIABLE: f"{cost.fixed_seconds},{cost.per_image_seconds}",
            "OVERLOCK_CLASSIFY_MODEL": "overlock_t",
            "OVERLOCK_CLASSIFY_WEIGHTS": "random",
            "OVERLOCK_SEGMENT_MODEL": "off",
            "OVERLOCK_MAX_BATCH_SIZE": str(MAX_BATCH_SIZE),
            "OVERLOCK_PORT": "{port}",
        },
    )


def ours_real(
    model: str, weights: str, *, max_batch_size: int = MAX_BATCH_SIZE, **settings: str
) -> Contestant:
    """Return the service as users start it, with one classifier.

    Args:
        model: its name.
        weights: as the settings name them.
        max_batch_size: of the engine.
        settings: more of the service's, as ``http_workers="4"``.
    """
    return Contestant(
        name="overlock-service",
        requirements=None,
        command=("{python}", "-m", "service.cli", "serve"),
        path=f"/v1/classify?timeout={TIMEOUT_SECONDS * 6}&top_k=1",
        note=f"{model}, {weights} weights",
        variables={
            "OVERLOCK_CLASSIFY_MODEL": model,
            "OVERLOCK_CLASSIFY_WEIGHTS": weights,
            "OVERLOCK_SEGMENT_MODEL": "off",
            "OVERLOCK_MAX_BATCH_SIZE": str(max_batch_size),
            "OVERLOCK_PORT": "{port}",
            **{f"OVERLOCK_{name.upper()}": value for name, value in settings.items()},
        },
    )


PEERS = (
    Contestant(
        name="Mosec",
        requirements="mosec",
        command=(
            *("{python}", "-m", f"{PACKAGE}.peers.mosec_server"),
            *("--address", "127.0.0.1", "--port", "{port}"),
            *("--timeout", str(TIMEOUT_SECONDS * 1000), "--log-level", "warning"),
        ),
        path="/inference",
        note="two decoding processes, one device process, 5 ms window",
    ),
    Contestant(
        name="LitServe",
        requirements="litserve",
        command=("{python}", "-m", f"{PACKAGE}.peers.litserve_server", "--port", "{port}"),
        path="/predict",
        note="one worker, 5 ms window, fast queue",
    ),
    Contestant(
        name="BentoML",
        requirements="bentoml",
        command=(
            *("{bin}/bentoml", "serve", f"{PACKAGE}.peers.bentoml_service:Classifier"),
            *("--host", "127.0.0.1", "--port", "{port}"),
        ),
        path="/classify",
        note="a decoding service before one with adaptive batching",
        variables={"BENTOML_DO_NOT_TRACK": "True"},
    ),
    Contestant(
        name="Ray Serve",
        requirements="ray",
        command=("{python}", "-m", f"{PACKAGE}.peers.ray_service", "--port", "{port}"),
        path="/",
        note="one replica, 5 ms window, throughput mode",
    ),
)


def as_documented(peer: Contestant) -> Contestant:
    """Return a peer that decodes and resizes as its documentation's examples do."""
    return replace(
        peer,
        name=f"{peer.name}, its example's decoding",
        note=f"{peer.note}; images opened, converted and resized by Pillow",
        variables=peer.variables | {DECODER_VARIABLE: DOCUMENTED},
    )


RESPONDER = Contestant(
    name="static responder",
    requirements=None,
    command=("{python}", "-m", f"{PACKAGE}.static_responder", "--port", "{port}"),
    path="/",
    note="answers at once: the load generator's own limit",
)

"""A models file whose weights are exchanged under a running service, and what it answers."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import torch
from msgspec import json

from model.zoo import create_model
from support.fault_clients import picture
from support.running_service import CLIENT, RunningService

NAMES = ("birds", "moths")
IMAGE = picture((40, 160, 220))


class Models:
    """A folder with a models file, and weights that it can name.

    Args:
        folder: an empty one.

    Attributes:
        file: the models file.
        digests: of each weights file.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.file = folder / "models.toml"
        self.digests = {name: self._write_weights(name) for name in ("first.pth", "second.pth")}
        self.name("first.pth")

    def other_than(self, digests: frozenset[str]) -> str:
        """Return the weights that are not among the served ones."""
        (other,) = (name for name, digest in self.digests.items() if digest not in digests)
        return other

    def _write_weights(self, name: str) -> str:
        torch.manual_seed(len(name))
        network = create_model("demo", weights="random", num_classes=10, fused=False)
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.05 * torch.randn_like(tensor))
        torch.save(network.state_dict(), self._folder / name)
        return hashlib.sha256((self._folder / name).read_bytes()).hexdigest()

    def name(self, weights: str, more: str = "") -> None:
        """Have the file name these weights for both models."""
        self.name_each(dict.fromkeys(NAMES, weights), more)

    def name_each(self, weights: Mapping[str, str], more: str = "") -> None:
        """Have the file state models with these weights."""
        tables = [
            f'[{model}]\narchitecture = "demo"\nweights = "{file}"\n{more}'
            for model, file in weights.items()
        ]
        self.file.write_text("\n".join(tables))


def reload(*words: str) -> subprocess.CompletedProcess[str]:
    """Run ``overlock reload`` to its end."""
    return start_reload(*words).wait_for_outcome()


@dataclass
class Reload:
    """A running ``overlock reload``."""

    process: subprocess.Popen[str]

    def wait_for_outcome(self) -> subprocess.CompletedProcess[str]:
        out, err = self.process.communicate(timeout=90)
        return subprocess.CompletedProcess([], self.process.returncode, out, err)


def start_reload(*words: str) -> Reload:
    """Start ``overlock reload``."""
    program = str(Path(sys.executable).with_name("overlock"))
    return Reload(
        subprocess.Popen(
            [program, "reload", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    )


@dataclass(frozen=True)
class Shown:
    """What ``/v1/models`` says of a service's models."""

    generation: int
    reload_error: str | None
    digests: frozenset[str]


def shown(service: RunningService) -> Shown:
    answer = service.get("/v1/models").json()
    digests = frozenset(model["weights_sha256"] for model in answer["models"])
    return Shown(answer["generation"], answer["reload_error"], digests)


def ask(service: RunningService, model: str = NAMES[0], query: str = "") -> httpx.Response:
    """Classify an image by a model."""
    return CLIENT.post(
        f"{service.url}/v1/classify?model={model}{query}",
        content=IMAGE,
        headers={"Content-Type": "image/png"},
        timeout=90,
    )


@dataclass
class Traffic:
    """Requests that arrive at a rate, whatever becomes of them.

    Attributes:
        failures: of all that were not 200, how many there were of each kind.
        scores: best class and rounded score of each answer, by model and digest.
        unready: answers of ``/readyz`` that were not 200.
    """

    failures: Counter[str] = field(default_factory=Counter)
    scores: dict[tuple[str, str], set[tuple[int, float]]] = field(default_factory=dict)
    answered: int = 0
    unready: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, service: RunningService, number: int, names: Sequence[str] = NAMES) -> None:
        model = names[number % len(names)]
        try:
            answer = ask(service, model)
            is_ready = number % 5 or service.get("/readyz").status_code == 200
        except httpx.TransportError as error:
            with self._lock:
                self.failures[type(error).__name__] += 1
            return
        with self._lock:
            self.unready += not is_ready
            if answer.status_code != 200:
                self.failures[answer.text] += 1
                return
            self.answered += 1
            body = json.decode(answer.content)
            assert body["model"] == model
            best = body["predictions"][0]
            # In another batch the last digits may differ.
            fact = best["class_id"], round(best["score"], 3)
            self.scores.setdefault((model, answer.headers["x-model-digest"]), set()).add(fact)


@contextmanager
def traffic(
    service: RunningService, per_second: float, names: Sequence[str] = NAMES
) -> Iterator[Traffic]:
    """Send requests at a rate while the block runs; each is awaited in the end."""
    counted, ended = Traffic(), threading.Event()

    def arrive() -> None:
        started, number = time.monotonic(), 0
        while not ended.is_set():
            senders.submit(counted.send, service, number, names)
            number += 1
            ended.wait(max(started + number / per_second - time.monotonic(), 0.0))

    with ThreadPoolExecutor(200) as senders:
        clock = threading.Thread(target=arrive)
        clock.start()
        try:
            yield counted
        finally:
            ended.set()
            clock.join()

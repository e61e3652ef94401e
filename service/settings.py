"""The operator's settings: environment variables with the prefix ``OVERLOCK_``.

The supervisor reads them once (and ``overlock serve``'s options, which are the same) and hands the
result to its processes as environment variables again.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from model.config import CLASSIFIERS, DETECTORS, SEGMENTERS, Task
from service.api.schemas import MAX_TIMEOUT_SECONDS

PREFIX = "OVERLOCK_"
CUDA_DEVICE = re.compile(r"cuda:\d+")
LINK = re.compile(r"(tcp|udp|sctp)://")
"""Value of a service-link variable such as ``OVERLOCK_PORT``."""


OFF = "off"
"""The model of a task that is not served."""

MODELS: dict[Task, tuple[str, ...]] = {
    Task.CLASSIFY: tuple(CLASSIFIERS),
    Task.SEGMENT: tuple(SEGMENTERS),
    Task.DETECT: tuple(DETECTORS),
}
"""Models that can be served, by task."""


def _model_of(task: Task) -> AfterValidator:
    def check(name: str) -> str:
        if name not in {*MODELS[task], OFF}:
            raise ValueError(
                f"no model {name!r} can {task}; there are {', '.join(MODELS[task])}, or {OFF}"
            )
        return name

    return AfterValidator(check)


def _is_device_list(devices: str) -> str:
    names = devices.split(",")
    distinct = len(set(names)) == len(names)
    if devices in {"auto", "cpu"} or (distinct and all(map(CUDA_DEVICE.fullmatch, names))):
        return devices
    raise ValueError("give auto, cpu, or a list like cuda:0,cuda:1")


ORIGIN = re.compile(r"https?://[A-Za-z0-9._\-\[\]:]+")


def _are_origins(origins: str) -> str:
    if origins == "*" or all(map(ORIGIN.fullmatch, origins.split(","))):
        return origins
    raise ValueError("give *, or a list like https://a.example,http://localhost:3000")


def _is_prefix(path: str) -> str:
    if re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", path):
        return path
    raise ValueError("give a path like /overlock, without a slash at its end")


class Settings(BaseSettings):
    """One frozen value for the whole service; durations in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    classify_model: Annotated[str, _model_of(Task.CLASSIFY)] = Field(
        default="demo",
        description=f"The classifier: {', '.join(CLASSIFIERS)}, or {OFF}.",
    )
    classify_weights: str | None = Field(
        default=None,
        description="Its weights: a checkpoint's path, pretrained (the authors', downloaded once), "
        "or random. The demo model brings its own.",
    )
    classify_labels: Path | None = Field(
        default=None,
        description="A text file with one class name a line, in the order of the class ids.",
    )
    segment_model: Annotated[str, _model_of(Task.SEGMENT)] = Field(
        default="demo",
        description=f"The segmenter: {', '.join(SEGMENTERS)}, or {OFF}.",
    )
    segment_weights: str | None = Field(default=None, description="As the classifier's.")
    segment_labels: Path | None = Field(default=None, description="As the classifier's.")
    segment_geometry: Literal["aspect", "square"] = Field(
        default="aspect",
        description="What a segmenter sees: aspect keeps an image's aspect ratio as published; "
        "square stretches every image to one size, so that all of them share batches.",
    )
    detect_model: Annotated[str, _model_of(Task.DETECT)] = Field(
        default=OFF,
        description="The detector: {mask_rcnn,cascade_mask_rcnn}_overlock_{xt,t,s,b}, or off.",
    )
    detect_weights: str | None = Field(default=None, description="As the classifier's.")
    detect_labels: Path | None = Field(default=None, description="As the classifier's.")
    host: str = Field(
        default="127.0.0.1",
        description="Address to listen on; 0.0.0.0 is every one of IPv4, :: every one of both "
        "families.",
    )
    port: int = Field(
        default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one."
    )
    http_workers: int = Field(
        default=1, ge=1, le=64, description="HTTP worker processes; each decodes on two threads."
    )
    devices: Annotated[str, AfterValidator(_is_device_list)] = Field(
        default="auto", description="auto, cpu, or a list like cuda:0,cuda:1; one engine for each."
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="auto takes bfloat16 on CUDA, "
        "and on a CPU what a short measurement finds faster.",
    )
    compile: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Whether torch.compile makes the networks faster: auto on CUDA alone, since "
        "on a CPU our own kernels are faster, and compiling takes minutes.",
    )
    max_batch_size: int = Field(
        default=16, ge=1, le=256, description="Most requests that share a forward pass."
    )
    max_queue_requests: int = Field(
        default=256,
        ge=1,
        le=100_000,
        description="Most requests of one task that an HTTP worker has for each engine, and that "
        "wait at one engine.",
    )
    max_queue_bytes: int = Field(
        default=2**29,
        ge=2**20,
        le=2**40,
        description="Most bytes of bodies and network inputs that an HTTP worker holds.",
    )
    default_timeout_seconds: float = Field(
        default=30.0,
        gt=0,
        le=MAX_TIMEOUT_SECONDS,
        description="A request's timeout where it names none.",
    )
    max_body_bytes: int = Field(
        default=20 * 2**20, ge=1024, le=2**30, description="Largest request body."
    )
    max_image_pixels: int = Field(
        default=50_000_000, ge=1024, le=10**9, description="Most pixels an image may decode to."
    )
    api_keys_file: Path | None = Field(
        default=None,
        description="Callers of /v1 need a key: a text file with a line NAME SHA256 for each one, "
        "read again when it changes. Without a line nobody may call.",
    )
    cors_origins: Annotated[str, AfterValidator(_are_origins)] | None = Field(
        default=None,
        description="Origins whose pages may call the service from a browser: a list like "
        "https://a.example,http://localhost:3000, or * for all.",
    )
    root_path: Annotated[str, AfterValidator(_is_prefix)] | None = Field(
        default=None,
        description="The path below which a proxy offers the service, such as /overlock; whether "
        "the proxy strips it does not matter.",
    )
    keep_alive_seconds: float = Field(
        default=75.0,
        gt=0,
        le=3600,
        description="How long an idle connection stays open; more than the proxy's own time.",
    )
    drain_delay_seconds: float = Field(
        default=0.0,
        ge=0,
        le=300,
        description="How long requests are still taken after SIGTERM, while /readyz is already "
        "503: the time that load balancers need to notice.",
    )
    cache_dir: Path | None = Field(
        default=None,
        description="A private folder for what shortens the next start: pretrained weights, "
        "compiled kernels; by default overlock-service in the user's cache folder.",
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="Log lines for people or for programs."
    )

    @model_validator(mode="after")
    def _has_weights(self) -> Self:
        for task in Task:
            model = self.model_of(task)
            if model not in {None, "demo"} and getattr(self, f"{task}_weights") is None:
                raise ValueError(
                    f"{PREFIX}{task.upper()}_WEIGHTS is needed for {model}: "
                    "a checkpoint's path, pretrained, or random"
                )
        return self

    @model_validator(mode="after")
    def _has_room_for_a_body(self) -> Self:
        if self.max_queue_bytes < self.max_body_bytes:
            raise ValueError(
                f"{PREFIX}MAX_QUEUE_BYTES is {self.max_queue_bytes}, less than one body of "
                f"{PREFIX}MAX_BODY_BYTES, {self.max_body_bytes}"
            )
        return self

    @model_validator(mode="after")
    def _serves_something(self) -> Self:
        if not any(self.model_of(task) for task in Task):
            raise ValueError(f"{PREFIX}CLASSIFY_MODEL and the other models are all {OFF}")
        return self

    def model_of(self, task: Task) -> str | None:
        """Return the name of a task's model as ``model.zoo`` takes it, or None if it is off."""
        name: str = getattr(self, f"{task}_model")
        return None if name == OFF else name

    def weights_of(self, task: Task) -> str:
        """Return the weights of a task's model as ``model.zoo`` takes them."""
        return getattr(self, f"{task}_weights") or "demo"

    def labels_of(self, task: Task) -> Path | None:
        """Return the file with a task's class names, if there is one."""
        path: Path | None = getattr(self, f"{task}_labels")
        return path

    @property
    def cache_folder(self) -> Path:
        """Folder for files that are kept between starts; it need not exist.

        Raises:
            SettingsError: if no folder is set and the user has no home.
        """
        if self.cache_dir is not None:
            return self.cache_dir.absolute()
        try:
            caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        except RuntimeError as error:
            raise SettingsError(f"{PREFIX}CACHE_DIR is needed: {error}") from error
        return caches / "overlock-service"

    def as_environment(self) -> dict[str, str]:
        """Return the variables from which another process reads equal settings."""
        values = self.model_dump(mode="json", exclude_none=True)
        return {PREFIX + name.upper(): str(value) for name, value in values.items()}


class SettingsError(ValueError):
    """The settings are wrong; the message says what to change, a line for each."""


def load_settings(
    overrides: Mapping[str, str] | None = None, environment: Mapping[str, str] | None = None
) -> Settings:
    """Read the settings.

    Args:
        overrides: values by field name that win over the environment.
        environment: searched for misspelt variables; by default the process's own.

    Raises:
        SettingsError: for a misspelt variable or a value that does not fit.
    """
    _refuse_misspelt(os.environ if environment is None else environment)
    try:
        return Settings(**(overrides or {}))  # type: ignore[arg-type]  # strings are validated
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(error))) from error


def _refuse_misspelt(environment: Mapping[str, str]) -> None:
    known = [PREFIX + name.upper() for name in Settings.model_fields]
    lines = []
    links = _link_variables(environment)
    for name in environment:
        if name.startswith(PREFIX) and name not in known and name not in links:
            close = difflib.get_close_matches(name, known, n=1)
            lines.append(f"There is no setting {name}." + (f" Is it {close[0]}?" if close else ""))
    if lines:
        raise SettingsError("\n".join(lines))


def _link_variables(environment: Mapping[str, str]) -> set[str]:
    """Return the variables that Kubernetes sets for Services named overlock or overlock-*.

    Source: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables.
    """
    end = "_SERVICE_HOST"
    hosts = [name for name in environment if name.startswith(PREFIX) and name.endswith(end)]
    prefixes = "|".join(re.escape(name.removesuffix(end)) for name in hosts)
    pattern = re.compile(rf"({prefixes})(_SERVICE_HOST|(_SERVICE)?_PORT(_.*)?)")
    return {name for name in environment if hosts and pattern.fullmatch(name)}


def _explain(error: ValidationError) -> list[str]:
    lines = []
    for problem in error.errors():
        name = PREFIX + str(problem["loc"][0]).upper() if problem["loc"] else ""
        message = problem["msg"].removeprefix("Value error, ")
        value = f" (it is {problem['input']!r})" if problem["loc"] else ""
        if LINK.match(str(problem["input"])):
            service = name.removesuffix("_PORT").lower().replace("_", "-")
            message += (
                f"; Kubernetes or Docker sets it for a Service named {service}: set "
                "enableServiceLinks: false, or give the Service another name"
            )
        lines.append(f"{name}: {message}{value}" if name else message)
    return lines

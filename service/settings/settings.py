"""The operator's settings: environment variables with the prefix ``OVERLOCK_``.

The supervisor reads them once (and ``overlock serve``'s options, which are the same) and hands the
result to its processes as environment variables again.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from model.config import CLASSIFIERS, SEGMENTERS, TRAINED_TASKS, Task
from service.api.queries import MAX_TIMEOUT_SECONDS
from service.settings.values import (
    MODELS,
    OFF,
    are_origins,
    is_device_list,
    is_loopback,
    is_model_name,
    is_model_of,
    is_prefix,
)

PREFIX = "OVERLOCK_"


def _off_is_none(value: object) -> object:
    return None if value == OFF else value


class SettingsError(ValueError):
    """The settings are wrong; the message says what to change, a line for each."""


class Settings(BaseSettings):
    """One frozen value for the whole service; durations in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    classify_model: Annotated[str, is_model_of(Task.CLASSIFY)] = Field(
        default="demo",
        description=f"The classifier: {', '.join(CLASSIFIERS)}, or {OFF}.",
    )
    classify_weights: str | None = Field(
        default=None,
        description="Its weights: a checkpoint's path, an address (hf://, s3://, gs://, https://), "
        "pretrained (the authors', downloaded once), or random. The demo model brings its own.",
    )
    classify_labels: Path | None = Field(
        default=None,
        description="A text file with one class name a line, in the order of the class ids.",
    )
    segment_model: Annotated[str, is_model_of(Task.SEGMENT)] = Field(
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
    detect_model: Annotated[str, is_model_of(Task.DETECT)] = Field(
        default=OFF,
        description="The detector: {mask_rcnn,cascade_mask_rcnn}_overlock_{xt,t,s,b}, or off.",
    )
    detect_weights: str | None = Field(default=None, description="As the classifier's.")
    detect_labels: Path | None = Field(default=None, description="As the classifier's.")
    models_file: Path | None = Field(
        default=None,
        description="A TOML file with a table for each model: its weights, labels, and how its "
        "input is made; or a folder with such a models.toml, or with one classifier's weights "
        "alone. The settings of models, weights and labels then stay unset.",
    )
    model_name: Annotated[str, AfterValidator(is_model_name)] | None = Field(
        default=None,
        description="The name of the only model, in place of its own; with several models the "
        "start is refused.",
    )
    model_control: Literal["off", "on"] = Field(
        default="off",
        description="Whether callers may unload and load the models by name, through "
        "/v2/repository; on needs API keys, or a loopback address to listen on.",
    )
    host: str = Field(
        default="127.0.0.1",
        description="Address to listen on; 0.0.0.0 is every one of IPv4, :: every one of both "
        "families.",
    )
    port: int = Field(
        default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one."
    )
    grpc_port: Annotated[
        Annotated[int, Field(ge=0, le=65535)] | None, BeforeValidator(_off_is_none)
    ] = Field(
        default=None,
        description="Port for the Open Inference Protocol over gRPC, on the same address; 0 takes "
        "a free one. off, or unset: none. Needs the extra grpc.",
    )
    http_workers: int = Field(
        default=1, ge=1, le=64, description="HTTP worker processes; each decodes on two threads."
    )
    devices: Annotated[str, AfterValidator(is_device_list)] = Field(
        default="auto",
        description="auto (every GPU that torch can use, else the CPU), cuda (every one, and at "
        "least one), cpu, or a list like cuda:0,cuda:1; one engine for each.",
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
        description="Most requests of one model and task that an HTTP worker has for each engine, "
        "and that wait at one engine.",
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
    max_timeout_seconds: float = Field(
        default=MAX_TIMEOUT_SECONDS,
        gt=0,
        le=MAX_TIMEOUT_SECONDS,
        description="Longest timeout that a request may have, and so the longest that answers are "
        "waited for after SIGTERM.",
    )
    max_body_bytes: int = Field(
        default=20 * 2**20, ge=1024, le=2**30, description="Largest request body."
    )
    max_image_pixels: int = Field(
        default=50_000_000, ge=1024, le=10**9, description="Most pixels an image may decode to."
    )
    api_keys_file: Path | None = Field(
        default=None,
        description="Callers of /v1, /v2 and gRPC need a key: a text file with a line NAME SHA256 "
        "for each one, read again when it changes. Without a line nobody may call.",
    )
    cors_origins: Annotated[str, AfterValidator(are_origins)] | None = Field(
        default=None,
        description="Origins whose pages may call the service from a browser: a list like "
        "https://a.example,http://localhost:3000, or * for all.",
    )
    root_path: Annotated[str, AfterValidator(is_prefix)] | None = Field(
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
        description="A private folder for what shortens the next start: fetched weights, "
        "compiled kernels; by default overlock-service in the user's cache folder.",
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="Log lines for people or for programs."
    )

    @model_validator(mode="after")
    def _has_weights(self) -> Self:
        for task in TRAINED_TASKS:
            model = self.model_of(task)
            if model not in {None, "demo"} and getattr(self, f"{task}_weights") is None:
                raise ValueError(
                    f"{PREFIX}{task.upper()}_WEIGHTS is needed for {model}: "
                    "a checkpoint's path or address, pretrained, or random"
                )
        return self

    @model_validator(mode="after")
    def _states_models_once(self) -> Self:
        family = [
            f"{task}_{part}" for task in TRAINED_TASKS for part in ("model", "weights", "labels")
        ]
        beside = [
            PREFIX + name.upper()
            for name in family
            if name in self.model_fields_set and getattr(self, name) not in {OFF, None}
        ]
        if self.models_file is not None and beside:
            raise ValueError(f"{PREFIX}MODELS_FILE states the models, so unset {', '.join(beside)}")
        return self

    @model_validator(mode="after")
    def _has_known_callers(self) -> Self:
        open_to_all = self.api_keys_file is None and not is_loopback(self.host)
        if self.model_control == "on" and open_to_all:
            raise ValueError(
                f"{PREFIX}MODEL_CONTROL=on would let everyone who reaches {self.host} unload "
                f"models: set {PREFIX}API_KEYS_FILE, or {PREFIX}HOST to a loopback address"
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
    def _has_a_timeout_that_requests_may_have(self) -> Self:
        if self.default_timeout_seconds > self.max_timeout_seconds:
            raise ValueError(
                f"{PREFIX}DEFAULT_TIMEOUT_SECONDS is {self.default_timeout_seconds:g}, more than "
                f"{PREFIX}MAX_TIMEOUT_SECONDS, {self.max_timeout_seconds:g}"
            )
        return self

    @model_validator(mode="after")
    def _serves_something(self) -> Self:
        if self.models_file is None and not any(self.model_of(task) for task in TRAINED_TASKS):
            raise ValueError(f"{PREFIX}CLASSIFY_MODEL and the other models are all {OFF}")
        return self

    def model_of(self, task: Task) -> str | None:
        """Return the model that a task's variable names, or None if it is off.

        With a models file it says nothing: ``service.settings.models_file.specs_of`` returns what
        is served.
        """
        name: str = getattr(self, f"{task}_model")
        return None if name == OFF else name

    def how_to_serve(self, task: Task) -> str:
        """Say, to a caller of a task that is off, how it would be served."""
        if task is Task.EXPLAIN:
            task = Task.CLASSIFY  # it is classifiers that can be explained
        if self.model_control == "on":
            return (
                f"No model that can {task} is loaded; POST /v2/repository/index lists the "
                "configured ones."
            )
        if self.models_file is not None:
            return f"No model of {PREFIX}MODELS_FILE can {task}; state one there."
        setting, names = f"{PREFIX}{task.upper()}", ", ".join(MODELS[task])
        return (
            f"{setting}_MODEL is off. To {task}, start the service with it set to one of {names} "
            f"and {setting}_WEIGHTS to pretrained or a checkpoint's path."
        )

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
        values = self.model_dump(mode="json", exclude_none=True, exclude_unset=True)
        return {PREFIX + name.upper(): str(value) for name, value in values.items()}

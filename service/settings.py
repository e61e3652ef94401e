"""What an operator can set: environment variables with the prefix ``OVERLOCK_``.

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

from model.config import CLASSIFIERS

PREFIX = "OVERLOCK_"
CUDA_DEVICE = re.compile(r"cuda:\d+")

MAX_TIMEOUT_SECONDS = 600.0
"""Longest time that a caller may wait."""


def _is_classifier(name: str) -> str:
    if name not in CLASSIFIERS:
        raise ValueError(f"there is no classifier {name!r}; there are {', '.join(CLASSIFIERS)}")
    return name


def _is_device_list(devices: str) -> str:
    names = devices.split(",")
    distinct = len(set(names)) == len(names)
    if devices in {"auto", "cpu"} or (distinct and all(map(CUDA_DEVICE.fullmatch, names))):
        return devices
    raise ValueError("give auto, cpu, or a list like cuda:0,cuda:1")


class Settings(BaseSettings):
    """One frozen value for the whole service; durations in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    classify_model: Annotated[str, AfterValidator(_is_classifier)] = Field(
        default="demo",
        description=f"The classifier: {', '.join(CLASSIFIERS)}.",
    )
    classify_weights: str | None = Field(
        default=None,
        description="Its weights: a checkpoint's path, or random. The demo model brings its own.",
    )
    classify_labels: Path | None = Field(
        default=None,
        description="A text file with one class name a line, in the order of the class ids.",
    )
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
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
        default="auto", description="auto takes bfloat16 on CUDA and float32 on a CPU."
    )
    max_batch_size: int = Field(
        default=16, ge=1, le=256, description="Most requests that share a forward pass."
    )
    max_queue_requests: int = Field(
        default=256, ge=1, le=100_000, description="Most requests that wait for one engine."
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
    log_format: Literal["text", "json"] = Field(
        default="text", description="Log lines for people or for programs."
    )

    @model_validator(mode="after")
    def _has_weights(self) -> Self:
        if self.classify_model != "demo" and self.classify_weights is None:
            raise ValueError(
                f"{PREFIX}CLASSIFY_WEIGHTS is needed for {self.classify_model}: "
                "a checkpoint's path, or random"
            )
        return self

    def classify_weights_source(self) -> str:
        """Return the classifier's weights as ``model.zoo`` takes them."""
        return self.classify_weights or "demo"

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
        environment: to look for misspelt variables in; by default the process's own.

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
    for name in environment:
        if name.startswith(PREFIX) and name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            lines.append(f"There is no setting {name}." + (f" Is it {close[0]}?" if close else ""))
    if lines:
        raise SettingsError("\n".join(lines))


def _explain(error: ValidationError) -> list[str]:
    lines = []
    for problem in error.errors():
        name = PREFIX + str(problem["loc"][0]).upper() if problem["loc"] else ""
        message = problem["msg"].removeprefix("Value error, ")
        value = f" (it is {problem['input']!r})" if problem["loc"] else ""
        lines.append(f"{name}: {message}{value}" if name else message)
    return lines

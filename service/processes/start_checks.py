"""What can be seen to be wrong before any process is started: the files that the settings name."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from model.checkpoints.file_kind import weights_file_problem
from model.labels.label_file import read_labels
from model.remote.addresses import RemoteError, check_address, is_address
from model.remote.extras import install_extra
from service.settings import NAMED_WEIGHTS, PREFIX, ModelSpec, Settings, SettingsError

GRPC_PACKAGES = ("grpcio", "grpcio-health-checking", "grpcio-reflection")
"""Packages of the extra ``grpc``; more of them come along."""


def check_packages(settings: Settings) -> None:
    """Look for the packages that the settings need.

    Raises:
        SettingsError: if one is missing; the message says how to install it.
    """
    if settings.grpc_port is None:
        return
    for package in GRPC_PACKAGES:
        try:
            version(package)
        except PackageNotFoundError:
            raise SettingsError(
                f"{PREFIX}GRPC_PORT needs the package {package}, which is not installed: "
                f"{install_extra('grpc')}; or unset it"
            ) from None


def check_files(settings: Settings, specs: Sequence[ModelSpec]) -> None:
    """Look at every file that the settings name.

    Args:
        settings: the service's.
        specs: its models.

    Raises:
        SettingsError: with a line for each setting whose file is missing, cannot be read or is of
            another kind.
    """
    problems = [problem for spec in specs for problem in _problems_of(spec)]
    if settings.api_keys_file is not None:
        reason = _unreadable_reason(settings.api_keys_file)
        if reason is not None:
            path = settings.api_keys_file
            problems.append(f"{PREFIX}API_KEYS_FILE: {path} cannot be read: {reason}.")
    if problems:
        raise SettingsError("\n".join(problems))


def _problems_of(spec: ModelSpec) -> list[str]:
    problems = []
    problem = _weights_problem(spec.weights)
    if problem is not None:
        problems.append(f"{spec.blame('weights')}: {problem}")
    if spec.labels is not None:
        try:
            read_labels(spec.labels)
        except ValueError as error:
            problems.append(f"{spec.blame('labels')}: {error}")
    return problems


def _weights_problem(weights: str) -> str | None:
    if weights in NAMED_WEIGHTS:
        return None
    if not is_address(weights):
        return weights_file_problem(Path(weights))
    try:
        check_address(weights)
    except RemoteError as error:
        return str(error)
    return None


def _unreadable_reason(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        return error.strerror
    return None

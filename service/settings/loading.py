"""Reading of the settings: misspelt variables and values that do not fit, each in a sentence."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping

from pydantic import ValidationError

from service.settings.settings import PREFIX, Settings, SettingsError

LINK = re.compile(r"(tcp|udp|sctp)://")
"""Value of a service-link variable such as ``OVERLOCK_PORT``."""

LINKS = (
    ("_SERVICE_HOST", "", r"(_SERVICE_HOST|(_SERVICE)?_PORT(_.*)?)"),
    ("_NAME", "/", r"(_NAME|_PORT(_.*)?|_ENV_.*)"),
)
"""For Kubernetes and for Docker: the end of the variable that every service has, the beginning of
its value, and the ends of all of the service's variables."""


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
    """Return the variables of Services, or linked containers, named overlock or overlock-*.

    Source: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
    and https://docs.docker.com/engine/network/links/#environment-variables.
    """
    return {
        name
        for end, start_of_value, pattern in LINKS
        for name in _linked(environment, end, start_of_value, pattern)
    }


def _linked(
    environment: Mapping[str, str], end: str, start_of_value: str, pattern: str
) -> Iterator[str]:
    services = {
        name.removesuffix(end)
        for name, value in environment.items()
        if name.startswith(PREFIX) and name.endswith(end) and value.startswith(start_of_value)
    }
    for service in services:
        expected = re.compile(re.escape(service) + pattern)
        yield from filter(expected.fullmatch, environment)


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

"""The words of options that several commands have; those of the settings are the settings' own."""

from __future__ import annotations

from collections.abc import Container

from service.settings import Settings

URL_HELP = "the service's address"
DEVICE_HELP = "auto, cpu or cuda:N; auto is the first GPU, and the CPU without one [auto]"
TASK_HELP = "classify, segment or detect [classify]"


def weights_help(models: Container[str]) -> str:
    """Return the values of an option for the weights of one of these models."""
    values = setting_help("classify_weights").removeprefix("its weights: ").partition(". The")[0]
    return values + ("; demo for the demo model" if "demo" in models else "")


def setting_help(name: str) -> str:
    """Return a setting's description as a command's help has it: no capital, no full stop."""
    words = Settings.model_fields[name].description or ""
    return words[:1].lower() + words[1:].removesuffix(".")

"""``overlock evaluate``."""

from __future__ import annotations

import argparse
import sys

from model.pretrained.assets import PRETRAINED
from model.remote.addresses import is_address
from service.commands.console.processes import exec_module
from service.commands.evaluate.arguments import fill_parser
from service.settings import load_settings

__all__ = ["fill_parser", "run"]


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, in a process with torch."""
    words = sys.argv[2:]
    weights = getattr(arguments, "weights", None)
    fetched = weights == PRETRAINED or is_address(weights)
    models_file = getattr(arguments, "models_file", None)
    if (fetched or models_file is not None) and arguments.cache_dir is None:
        words += ["--cache-dir", str(load_settings().cache_folder)]
    exec_module("service.commands.evaluate", words)

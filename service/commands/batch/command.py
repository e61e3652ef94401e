"""``overlock batch``."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec

from model.remote.extras import install_extra
from service.commands.batch.arguments import fill_parser
from service.commands.console.exits import RefusedError
from service.commands.console.processes import exec_module

__all__ = ["fill_parser", "run"]

NEEDED = ("ray", "pyarrow", "fsspec")


def run(arguments: argparse.Namespace) -> int:
    """Predict, in processes of Ray's."""
    for package in NEEDED:
        if find_spec(package) is None:
            raise RefusedError(f"overlock batch needs {package}: {install_extra('batch')}.")
    exec_module("service.commands.batch", sys.argv[2:])

"""``overlock export``."""

from __future__ import annotations

import argparse
import sys

from service.commands.console.processes import exec_module
from service.commands.export.arguments import fill_parser

__all__ = ["fill_parser", "run"]


def run(arguments: argparse.Namespace) -> int:
    """Export, in a process with torch."""
    exec_module("service.commands.export", sys.argv[2:])

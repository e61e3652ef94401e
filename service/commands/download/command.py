"""``overlock download``."""

from __future__ import annotations

import argparse
import sys

from service.commands.console.processes import exec_module
from service.commands.download.arguments import fill_parser
from service.settings import load_settings

__all__ = ["fill_parser", "run"]


def run(arguments: argparse.Namespace) -> int:
    """Download, in a process with torch, which verifies the authors' files."""
    folder = arguments.cache_dir or load_settings().cache_folder
    exec_module("service.commands.download", [*sys.argv[2:], "--cache-dir", str(folder.absolute())])

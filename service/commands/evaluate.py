"""``overlock evaluate``."""

from __future__ import annotations

import argparse
import sys

from model.evaluation.arguments import fill_parser
from service.console.processes import become

__all__ = ["fill_parser", "run"]


def run(_: argparse.Namespace) -> int:
    """Evaluate, in a process with torch."""
    become("model.evaluate", sys.argv[2:])

"""The documents of the repository, and the commands and snippets in them."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(document: str, language: str) -> list[str]:
    """Return the contents of a document's fenced blocks in one language."""
    return re.findall(rf"```{language}\n(.*?)```", text_of(document), re.DOTALL)


def run_curl(document: str, path: str, port: int) -> bytes:
    """Run a document's curl command for a path against a port and return the answer's body."""
    (command,) = [
        block for block in blocks(document, "bash") if block.startswith("curl") and path in block
    ]
    words = shlex.split(command.replace("localhost:8000", f"127.0.0.1:{port}"))
    if "-o" in words:
        del words[words.index("-o") :]
    return subprocess.run([*words, "-s"], cwd=ROOT, capture_output=True, check=True).stdout

"""What a peer's server imports of ours works with the packages of its own environment."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.documents import ROOT

FOLDER = ROOT / "benchmarks" / "serving"
PEERS = sorted(
    path for path in FOLDER.glob("requirements-*.txt") if path.stem != "requirements-plot"
)

IMPORT_WITH = """
import sys
from importlib.metadata import packages_distributions
pinned = set(sys.argv[1:])
absent = {
    module
    for module, names in packages_distributions().items()
    if not pinned & {name.lower().replace("_", "-") for name in names}
}
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent - {"model", "service"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
import benchmarks.serving.peer_work
"""


@pytest.mark.parametrize("path", PEERS, ids=lambda path: path.stem)
def test_a_peer_has_the_packages_of_our_decoder(path: Path) -> None:
    text = path.read_text("utf-8").lower().replace("_", "-")
    pinned = re.findall(r"^([a-z0-9.-]+)", text, re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_WITH, *pinned],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-300:]

"""``overlock evaluate`` as a researcher calls it, in a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

OVERLOCK = str(Path(sys.executable).with_name("overlock"))
DEMO = ("classify", "--model", "demo", "--weights", "demo", "--data", "demo", "--device", "cpu")


def overlock_evaluate(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [OVERLOCK, "evaluate", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100)


def test_the_demo_is_measured_on_its_scenes(tmp_path: Path) -> None:
    # What researchers have beside their checkpoint may well be called like our package.
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "__init__.py").write_text("raise RuntimeError('not this one')")
    done = overlock_evaluate(*DEMO, "--limit", "64", "--output", "r.json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert report["items"] == 64
    assert report["metrics"]["top1"] > 90
    lines = done.stdout.splitlines()
    assert lines[1] == "on 64 of 2000 drawn scenes"
    assert lines[3].startswith("input_size 224 (architecture), crop_pct 1.0 (architecture)")
    assert lines[6].split() == ["percent", "measured"]
    assert lines[7].split() == ["top-1", "accuracy", f"{report['metrics']['top1']:.2f}"]
    assert "64/64" in done.stderr


def test_the_demo_segmenter_is_measured_on_its_scenes(tmp_path: Path) -> None:
    arguments = ("segment", *DEMO[1:], "--limit", "40", "--offset", "1000", "--output", "r.json")
    done = overlock_evaluate(*arguments, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert report["items"] == 40
    assert report["metrics"]["miou"] > 85
    assert report["metrics"]["pixel_accuracy"] > 97
    assert f"{report['metrics']['miou']:.2f}" in done.stdout
    assert "on 40 of 2000 drawn scenes" in done.stdout


def test_an_error_is_one_line_on_the_standard_error_stream(tmp_path: Path) -> None:
    arguments = ("classify", "--model", "demo", "--weights", "demo", "--data", "nowhere")
    done = overlock_evaluate(*arguments, folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "overlock evaluate: There is no folder nowhere.\n"


def test_control_c_reports_what_was_measured(tmp_path: Path) -> None:
    arguments = [*DEMO, "--batch-size", "1", "--output", "part.json"]
    process = subprocess.Popen(
        [OVERLOCK, "evaluate", *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert "0/2000" in _read_until(process, "0/2000")
    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=100)
    assert process.returncode == 130
    report = json.loads((tmp_path / "part.json").read_text("utf-8"))
    assert 0 < report["items"] < 2000
    assert f"on {report['items']} of 2000 drawn scenes" in text


def _read_until(process: subprocess.Popen[str], text: str) -> str:
    """Read the standard error stream until it shows a text, or ends."""
    assert process.stderr is not None
    seen = ""
    while text not in seen and (character := process.stderr.read(1)):
        seen += character
    return seen

"""The command: its options, the facts of the machine, and the two runs."""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import subprocess
import sys
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import processor_facts
from benchmarks.on_gpu import caches
from benchmarks.on_gpu.bench import BENCHMARKS, Bench
from benchmarks.on_gpu.report import write_report
from benchmarks.on_gpu.running import WorkerProcess, run_sections
from benchmarks.on_gpu.sections import RUN_SECONDS, RUNS, SECTIONS

QUICK_PATIENCE = 3.0
"""Factor on all budgets of a quick run, which tries the program on machines of any speed."""

PACKAGES = ("torch", "triton", "numpy", "timm", "torchvision")


def main() -> None:
    arguments = _arguments()
    bench = Bench(torch.device(arguments.device), arguments.quick, arguments.output)
    facts = _facts(bench) | {"caches at the start": caches.unpack()}
    environment = os.environ | caches.environment()
    patience = QUICK_PATIENCE if bench.quick else 1.0
    for run in [arguments.run] if arguments.run else RUNS:
        sections = [
            replace(section, seconds=section.seconds * patience)
            for section in RUNS[run]
            if section.name in arguments.only
        ]
        report: dict[str, Any] = {"facts": {"run": run} | facts, "sections": {}}
        output = arguments.output / f"gpu-{run.lower()}"
        write = partial(write_report, report, output)
        launch = partial(WorkerProcess, bench, environment)
        passed = run_sections(sections, launch, report, write, RUN_SECONDS * patience)
        print(output.with_suffix(".md").read_text())
        if not passed:
            sys.exit("The first look found an error: nothing else was run.")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Check and measure on a GPU.")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu")
    parser.add_argument("--quick", action="store_true", help="tiny problems: tries the program")
    parser.add_argument("--run", choices=[*RUNS], help="one of the runs alone (default: both)")
    names = [*SECTIONS]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="SECTION")
    parser.add_argument(
        "--output",
        type=Path,
        default=BENCHMARKS / "results" / "gpu",
        metavar="FOLDER",
        help="where the results and the packed caches go (default %(default)s)",
    )
    arguments = parser.parse_args()
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("there is no CUDA device; --device cpu --quick tries the program without one")
    return arguments


def _facts(bench: Bench) -> dict[str, str]:
    versions = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            versions.append(f"no {package}")
    facts = {
        "command": shlex.join(["python", "benchmarks/gpu.py", *sys.argv[1:]]),
        "versions": ", ".join(versions),
        "device": str(bench.device),
        "processor": f"{processor_facts().get('model name', 'unknown')}, "
        f"{len(os.sched_getaffinity(0))} cores",
    }
    if not bench.is_cuda:
        return facts | {"not a measurement": "no GPU; the program was only tried"}
    properties = torch.cuda.get_device_properties(bench.device)
    facts["device"] = (
        f"{properties.name}, {properties.multi_processor_count} multiprocessors, "
        f"{properties.total_memory / 1e9:.0f} GB"
    )
    facts["CUDA"] = f"{torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    query = ["nvidia-smi", "--query-gpu=driver_version,clocks.sm,clocks.mem", "--format=csv"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30)
        facts["driver and clocks at the start"] = " | ".join(answer.stdout.split("\n")).strip(" |")
    except (OSError, subprocess.SubprocessError) as error:
        facts["driver and clocks at the start"] = f"unknown: {error}"
    return facts

"""The command: its options, and the sections in their order."""

from __future__ import annotations

import argparse
import faulthandler
import os
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import torch

from benchmarks.machine import processor_facts
from benchmarks.on_gpu import (
    check_kernels,
    check_networks,
    classifiers,
    dense,
    detection,
    endurance,
    http,
    kernels,
    peers,
    profile,
    served,
    starts,
)
from benchmarks.on_gpu.bench import Bench, Section
from benchmarks.on_gpu.report import ALL_SECONDS, run_sections
from benchmarks.on_gpu.served import release

SECTIONS = [
    Section("kernel-checks", "Kernels against the reference", 20, check_kernels.rows),
    Section("network-checks", "Networks against the CPU", 40, check_networks.rows),
    Section("kernels", "Kernels against the memory's roofline", 25, kernels.rows),
    Section("served", "As an engine serves it: pixels in, logits out", 60, served.rows, release),
    Section("profile", "Where the time goes, T, batches as served", 8, profile.rows, release),
    Section("endurance", "Thousands of batches of mixed shapes", 70, endurance.rows, release),
    Section(
        "http", "The whole service, saturated, beside the bare engine", 100, http.rows, release
    ),
    Section("classifiers", "Classifiers at 224x224, images a second", 45, classifiers.rows),
    Section("peers", "Other networks, from timm, the same way", 35, peers.rows),
    Section("dense", "Segmenter and detector", 30, dense.rows),
    Section("detection", "RoIAlign and NMS beside torchvision's", 5, detection.rows),
    Section("latency", "Latency of one image, without the compiler", 7, classifiers.latency_rows),
    Section("starts", "From the start of a process to the first answers", 15, starts.rows),
]
"""The most important first: the last ones may not fit into the time. All together fill it."""

GRACE_SECONDS = 80.0
"""Seconds past the time after which a hanging program ends; the report keeps its rows."""

RESULTS = Path(__file__).resolve().parent.parent / "results"
PACKAGES = ("torch", "triton", "numpy", "timm", "torchvision")


def main() -> None:
    arguments = _arguments()
    faulthandler.enable()
    faulthandler.dump_traceback_later(arguments.seconds + GRACE_SECONDS, exit=True)
    bench = Bench(torch.device(arguments.device), arguments.quick)
    bench.set_up()
    wanted = [section for section in SECTIONS if section.name in arguments.only]
    run_sections(wanted, bench, _facts(bench), arguments.output, arguments.seconds)
    print(arguments.output.with_suffix(".md").read_text())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Check and measure on a GPU.")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu")
    parser.add_argument("--quick", action="store_true", help="tiny problems: tries the program")
    names = [section.name for section in SECTIONS]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="SECTION")
    parser.add_argument(
        "--seconds",
        type=float,
        default=ALL_SECONDS,
        help="no row begins later (default %(default)s)",
    )
    parser.add_argument("--output", type=Path, default=RESULTS / "gpu", help="without a suffix")
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

"""Whole networks on processors that this machine does not have, and the instructions of builds.

See ``make test-processors``. The kernels alone are tested on the same processors by the fixture
``instructions``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from model.kernels.cpu.instruction_sets import (
    INSTRUCTION_SETS,
    InstructionSet,
    runnable_instruction_sets,
)
from model.kernels.cpu.packed_conv import packed_conv_unsupported_reason
from model.lowering.cpu import lower_for_cpu
from model.zoo import create_model
from support.checkpoints import official_state
from support.emulated_kernels import CORTEX_A72, HASWELL, emulated
from support.golden_networks import TOLERANCE, assert_relative, images_of

ROOT = Path(__file__).parents[5]
LOGITS = ROOT / "tests" / "golden" / "cls_logits.npz"
SMALLEST = "xt-64x96"
TOLERANCES = {"float32": TOLERANCE, "bfloat16": 5e-2}
"""Of the largest logit; in bfloat16 sixty layers round to 8 significant bits."""

ENVIRONMENT = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}

pytestmark = pytest.mark.processors

X86_BUILDS = [build for build in INSTRUCTION_SETS if build.machine == "x86_64"]
BFLOAT16_INSTRUCTION = re.compile(r"\b(vdpbf16ps|vcvtne2?ps2bf16)\b")
AVX512_REGISTER = re.compile(r"%zmm|%[xy]mm(1[6-9]|2\d|3[01])\b|%k[0-7]\b")
"""What only an instruction in AVX-512's encoding can name."""


@dataclass(frozen=True)
class Golden:
    """Files of ``support.golden_program``, and what the authors' network gives for them."""

    checkpoint: Path
    images: Path
    logits: torch.Tensor

    def run(
        self, command: Sequence[str], kernels: Path, dtype: str, limits: dict[str, str]
    ) -> tuple[torch.Tensor, list[str]]:
        """Return the logits, and the lines that were printed."""
        target = self.images.with_name("logits.npy")
        files = [kernels, self.checkpoint, self.images, target]
        completed = subprocess.run(
            [*command, sys.executable, "-m", "support.golden_program", *files, dtype],
            env=os.environ | ENVIRONMENT | limits,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        return torch.from_numpy(np.load(target)), completed.stdout.splitlines()


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    """Write XT's golden weights, 80 MB, once for this file."""
    folder = tmp_path_factory.mktemp("golden")
    torch.save(official_state("overlock_xt"), folder / "overlock_xt.pth")
    np.save(folder / "images.npy", images_of(SMALLEST, "64x96").numpy())
    logits = torch.from_numpy(np.load(LOGITS)[SMALLEST])
    return Golden(folder / "overlock_xt.pth", folder / "images.npy", logits)


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_a_processor_with_avx2_alone_gives_the_authors_logits(
    golden: Golden, build_for: Callable[[tuple[str, ...]], Path], dtype: str
) -> None:
    reason = HASWELL.unsupported_reason()
    if reason is not None:
        pytest.skip(f"Haswell cannot be emulated here: {reason}")
    kernels = build_for(HASWELL.build().flags)
    got, printed = golden.run(HASWELL.emulator, kernels, dtype, {})
    assert printed[0] == "AVX2"
    assert_relative(got, golden.logits, TOLERANCES[dtype])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_avx512_without_bfloat16_gives_the_authors_logits(
    golden: Golden, build_for: Callable[[tuple[str, ...]], Path], dtype: str
) -> None:
    """No free emulator has AVX-512: this processor is limited, as oneDNN and PyTorch allow it."""
    build = INSTRUCTION_SETS[1]
    if build not in runnable_instruction_sets():
        pytest.skip(f"This processor does not run {build.name}")
    limits = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "ATEN_CPU_CAPABILITY": "avx512"}
    got, printed = golden.run((), build_for(build.flags), dtype, limits | {"ONEDNN_VERBOSE": "1"})
    assert "AVX512" in printed
    # In float32 nothing is left to oneDNN, which then says nothing.
    instructions = [line.lower() for line in printed if "info,cpu,isa:" in line]
    assert instructions or dtype == "float32"
    assert not any("bfloat16" in line for line in instructions)
    assert_relative(got, golden.logits, TOLERANCES[dtype])


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", TOLERANCES)
def test_arms_kernels_give_the_authors_logits_in_a_network(
    golden: Golden, tmp_path: Path, name: str
) -> None:
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]
    images = images_of(SMALLEST, "64x96").to(dtype)
    # The dense convolutions are this machine's: there is no PyTorch to emulate.
    reason = packed_conv_unsupported_reason(dtype)
    if reason is not None:
        pytest.skip(f"This machine's oneDNN lacks them: {reason}")
    with emulated(CORTEX_A72, tmp_path), torch.inference_mode():
        network = lower_for_cpu(create_model("overlock_xt", weights=golden.checkpoint), dtype)
        got = network(images).float()
    assert_relative(got, golden.logits, TOLERANCES[name])


@pytest.mark.slow
@pytest.mark.parametrize("build", X86_BUILDS, ids=lambda each: each.name)
def test_a_build_has_no_instruction_beyond_its_processor(
    build_for: Callable[[tuple[str, ...]], Path], build: InstructionSet
) -> None:
    if shutil.which("objdump") is None:
        pytest.skip("objdump, of binutils, is not installed")
    library = build_for(build.flags)
    listing = subprocess.run(
        ["objdump", "--disassemble", "--no-show-raw-insn", library],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert bool(BFLOAT16_INSTRUCTION.search(listing)) == ("avx512_bf16" in build.features)
    assert bool(AVX512_REGISTER.search(listing)) == ("avx512f" in build.features)
    assert "%ymm" in listing  # the listing is one of vector instructions at all

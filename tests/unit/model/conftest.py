"""The CPU kernels, compiled for every instruction set of this processor, and emulated ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from model.kernels.cpu import library
from model.kernels.cpu.instruction_sets import machine_instruction_sets, runnable_instruction_sets
from support.emulated_kernels import PROCESSORS, emulated
from support.native_kernels import forget, use

EMULATED = {f"emulated {processor.name}": processor for processor in PROCESSORS}

BUILDS = {build.name: build for build in machine_instruction_sets()}


@pytest.fixture(scope="session")
def build_for(tmp_path_factory: pytest.TempPathFactory) -> Callable[[tuple[str, ...]], Path]:
    """Compile the kernels with flags, once in a session."""
    folder = tmp_path_factory.mktemp("kernels")
    return cache(lambda flags: library.compile_library(folder / f"{'-'.join(flags)}.so", flags))


@pytest.fixture(
    params=[
        "this processor",
        *(pytest.param(name, marks=pytest.mark.slow) for name in BUILDS),
        *(
            pytest.param(name, marks=[pytest.mark.processors, pytest.mark.exhaustive])
            for name in EMULATED
        ),
    ],
    scope="module",
)
def instructions(
    request: pytest.FixtureRequest,
    build_for: Callable[[tuple[str, ...]], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[None]:
    """Load the kernels for one set of instructions, or an emulated processor."""
    if request.param in EMULATED:
        with emulated(EMULATED[request.param], tmp_path_factory.mktemp("emulated")):
            yield
        return
    flags: tuple[str, ...] = library.THIS_PROCESSOR
    if request.param != "this processor":
        build = BUILDS[request.param]
        if build not in runnable_instruction_sets():
            pytest.skip(f"This processor does not run {build.name}")
        flags = build.flags
    use(library._load(build_for(flags)))
    yield
    forget()

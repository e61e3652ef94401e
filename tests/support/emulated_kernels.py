"""The CPU kernels in an emulator of another processor, called like the library of this one.

QEMU's user mode runs a small program (``emulated_kernels.c``) that has the kernels. A call sends it
the buffers, whose sizes follow from a kernel's numbers, and copies them back.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from model.kernels.cpu import library
from model.kernels.cpu.instruction_sets import INSTRUCTION_SETS, InstructionSet
from model.kernels.cpu.ops import lanes
from support.native_kernels import forget, use

SOURCE = Path(__file__).with_suffix(".c")
NUMBER, AGAIN = -1, -2
DENSE_FACTS = 12
"""Integers of ``dense_t`` in ``dense.c``."""
GROUP_BYTES = 48
"""Of a column in ``resample.c``."""


@dataclass(frozen=True)
class Processor:
    """A processor to emulate.

    Attributes:
        name: of the processor, for a test.
        instructions: name of the build that it runs.
        compiler: for that kind of machine.
        emulator: command, without the program.
    """

    name: str
    instructions: str
    compiler: str
    emulator: tuple[str, ...]

    def unsupported_reason(self) -> str | None:
        """Return what is missing here, or None."""
        missing = [each for each in (self.compiler, self.emulator[0]) if not shutil.which(each)]
        return f"there is no {' and no '.join(missing)}" if missing else None

    def build(self) -> InstructionSet:
        """Return the build that it runs."""
        (build,) = (each for each in INSTRUCTION_SETS if each.name == self.instructions)
        return build


HASWELL = Processor("Haswell", "x86-64-v3", "gcc", ("qemu-x86_64", "-cpu", "Haswell"))
"""AVX2 without AVX-512."""

CORTEX_A72 = Processor(
    "Cortex-A72", "armv8-a", "aarch64-linux-gnu-gcc", ("qemu-aarch64", "-cpu", "cortex-a72")
)

PROCESSORS = (HASWELL, CORTEX_A72)


class EmulatedKernels:
    """Stands in for the loaded library of the kernels.

    Args:
        processor: that it runs on.
        folder: for the program.
    """

    def __init__(self, processor: Processor, folder: Path) -> None:
        program = folder / processor.instructions
        kernels = "".join(f"KERNEL({name})" for name in library._SIGNATURES)
        sources = [str(SOURCE), *map(str, sorted(library.SOURCES.glob("*.c")))]
        flags = [*library.FLAGS, *processor.build().flags, "-static", f"-DKERNELS={kernels}"]
        subprocess.run(
            [processor.compiler, *flags, "-o", str(program), *sources, "-lm"], check=True
        )
        self._lock = threading.Lock()  # a test calls from several threads
        self._process = subprocess.Popen(
            [*processor.emulator, str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # QEMU's list of features that it does not emulate
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    def close(self) -> None:
        """End the emulator."""
        self._process.communicate()

    def __getattr__(self, name: str) -> Callable[..., int]:
        if name not in library._SIGNATURES:
            raise AttributeError(name)
        return lambda *arguments: self._call(name, arguments)

    def _call(self, name: str, arguments: tuple[int | None, ...]) -> int:
        sizes = _buffer_bytes(name, arguments)
        words = [len(name).to_bytes(8, "little"), name.encode(), _int64(len(arguments))]
        copied: dict[int, int] = {}  # positions by address
        for at, argument in enumerate(arguments):
            if at not in sizes or argument is None:
                words += [_int64(NUMBER), _int64(argument or 0)]
            elif argument in copied:
                words += [_int64(AGAIN), _int64(copied[argument])]
            else:
                copied[argument] = at
                words += [_int64(sizes[at]), ctypes.string_at(argument, sizes[at])]
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write(b"".join(words))
            self._process.stdin.flush()
            returned = self._read(8)
            for address, at in copied.items():
                ctypes.memmove(address, self._read(sizes[at]), sizes[at])
        return ctypes.c_int(int.from_bytes(returned[:4], "little")).value

    def _read(self, count: int) -> bytes:
        assert self._process.stdout is not None
        data = self._process.stdout.read(count)
        if len(data) < count:
            raise RuntimeError(f"The emulated program ended with {self._process.wait()}.")
        return data


@contextmanager
def emulated(processor: Processor, folder: Path) -> Iterator[None]:
    """Let every kernel run on an emulated processor; skip the test if that cannot be."""
    reason = processor.unsupported_reason()
    if reason is not None:
        pytest.skip(f"{processor.name} cannot be emulated here: {reason}")
    kernels = EmulatedKernels(processor, folder)
    use(cast("ctypes.CDLL", kernels))
    try:
        yield
    finally:
        forget()
        kernels.close()


def _int64(number: int) -> bytes:
    return int(number).to_bytes(8, "little", signed=True)


def _buffer_bytes(name: str, a: tuple[int | None, ...]) -> dict[int, int]:
    """Return the bytes of every buffer among a kernel's arguments, by position."""
    n = [each or 0 for each in a]
    match name:
        case "overlock_paired" | "overlock_lanes" | "overlock_prefers_dense":
            return {}
        case "overlock_dense" | "overlock_dense_bytes" | "overlock_pack_dense":
            return _dense_bytes(name, n)
        case "overlock_depthwise":
            batch, height, width, channels, kernel, bfloat16 = n[5:11]
            pixels = batch * height * width * channels * _element(bfloat16)
            taps = 4 * _padded(channels) * kernel * kernel
            return {
                0: pixels,
                1: taps,
                2: 4 * _padded(channels),
                3: pixels,
                4: 4 * batch * channels,
            }
        case "overlock_layer_norm":
            pixels, channels, bfloat16 = n[6:9]
            parameters = dict.fromkeys((1, 2, 4), 4 * channels)
            return dict.fromkeys((0, 3, 5), pixels * channels * _element(bfloat16)) | parameters
        case "overlock_sums":
            batch, pixels, channels, _, bfloat16 = n[2:7]
            return {0: batch * pixels * channels * _element(bfloat16), 1: 4 * batch * channels}
        case "overlock_response_norm":
            batch, pixels, channels, bfloat16 = n[4:8]
            parameters = {1: 4 * batch * channels, 2: 4 * channels, 3: 4 * channels}
            return {0: batch * pixels * channels * _element(bfloat16)} | parameters
        case "overlock_excite":
            hidden, batch, pixels, channels, bfloat16 = n[7:12]
            maps = dict.fromkeys((0, 6), batch * pixels * channels * _element(bfloat16))
            layers = {2: 4 * hidden * channels, 3: 4 * hidden, 4: 4 * hidden * channels}
            return maps | layers | {1: 4 * batch * channels, 5: 4 * channels}
        case "overlock_context_mixing":
            return _mixing_bytes(n)
        case "overlock_join_context":
            steps, widths, (pixels, bfloat16) = n[5:8], (*n[8:10], n[9]), n[10:12]
            spans = [(pixels - 1) * step + width for step, width in zip(steps, widths, strict=True)]
            result = pixels * (widths[0] + widths[1])
            joined = dict(zip((0, 1, 2, 4), (*spans, result), strict=True))
            element = _element(bfloat16)
            return {at: size * element for at, size in joined.items()} | {3: 12 * widths[1]}
        case "overlock_pool":
            step, batch, height, width, channels, grid, bfloat16 = n[2:9]
            pixels = (batch * height * width - 1) * step + channels
            element = _element(bfloat16)
            return {0: pixels * element, 1: batch * grid * grid * channels * element}
        case "overlock_mix_keys":
            batch, cells, channels, _, taps, bfloat16 = n[3:9]
            keys, mixed = (batch * each * channels * _element(bfloat16) for each in (cells, taps))
            return {0: 4 * taps * cells, 1: keys, 2: mixed}
        case "overlock_resample_rows":
            rows, columns, step, target_columns, taps, target_step = n[6:12]
            table = {1: 4 * target_columns, 2: 4 * target_columns, 3: 4 * target_columns * taps}
            source = (rows - 1) * step + 4 * columns
            strip = (columns + 1) * GROUP_BYTES
            return {0: source, 4: strip, 5: rows * target_step} | table
        case "overlock_resample_columns":
            step, width, target_rows, taps = n[5:9]
            firsts, counts = ((ctypes.c_int32 * target_rows).from_address(n[at]) for at in (1, 2))
            rows = max(map(sum, zip(firsts, counts, strict=True)))
            table = {1: 4 * target_rows, 2: 4 * target_rows, 3: 4 * target_rows * taps}
            return {0: rows * step, 4: target_rows * width} | table
    raise NotImplementedError(f"The sizes of {name}'s buffers are not known here.")


def _dense_bytes(name: str, n: list[int]) -> dict[int, int]:
    channels, results, height, width, *_, bfloat16 = (ctypes.c_int64 * DENSE_FACTS).from_address(
        n[0]
    )
    values = channels * height * width
    sizes = {0: 8 * DENSE_FACTS}
    if name == "overlock_pack_dense":
        sizes |= {1: 4 * results * values, 2: 4 * _padded(results) * values}
    if name == "overlock_dense":
        batch, in_height, in_width, out_height, out_width = n[5:10]
        element = _element(bfloat16)
        sizes |= {
            1: 4 * _padded(results) * values,
            2: 4 * _padded(results),
            3: batch * in_height * in_width * channels * element,
            4: batch * out_height * out_width * results * element,
        }
    return sizes


def _mixing_bytes(n: list[int]) -> dict[int, int]:
    batch, height, width, channels, query_width, groups, small, large, bfloat16 = n[6:15]
    pixels, element = batch * height * width, _element(bfloat16)
    keys = batch * (small * small + large * large) * query_width * element
    biases = {3: small, 4: large}
    return {
        0: pixels * channels * element,
        1: pixels * query_width * element,
        2: keys,
        5: pixels * channels * element,
    } | {at: 4 * groups * side * side * _padded(side * side) for at, side in biases.items()}


def _element(bfloat16: int) -> int:
    return 2 if bfloat16 else 4


def _padded(count: int) -> int:
    return count + -count % lanes()

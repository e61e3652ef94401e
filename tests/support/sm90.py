"""Compile the networks' kernels for an H100 or H200 without one.

Run as a program, with Triton's interpreter off: prints the resources of every kernel as JSON lines.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import triton  # type: ignore[import-untyped,import-not-found,unused-ignore]
from torch import Tensor
from triton.backends.compiler import GPUTarget  # type: ignore[import-untyped,import-not-found,unused-ignore]

from model.config import BACKBONES, BackboneConfig
from model.kernels.gpu import activated_depthwise as activated
from model.kernels.gpu import context_mixing as mixing
from model.kernels.gpu import depthwise_16bit as matrix
from model.kernels.gpu import depthwise_float32 as depthwise
from model.kernels.gpu import depthwise_paired as paired
from model.kernels.gpu import label_map, nms, position_norm, response_norm, roi_align, scaled_rows
from model.kernels.gpu import squeeze_excite as excite
from model.kernels.gpu.depthwise_layout import lay_out
from model.kernels.gpu.mixing_orders import triton_orders
from model.kernels.large_depthwise import triton_tiles
from model.kernels.scaled_product import scales_weight

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
LAST = torch.channels_last
INPUTS = {
    (variant, height, width): config
    for variant, config in BACKBONES.items()
    for height, width in ((224, 224), (800, 1344))
    # On larger maps S and B differ from T and XT in the widths that they have on small ones too.
    if height == 224 or variant in {"overlock_xt", "overlock_t"}
}
STRIDES = (4, 8, 16, 32)


class DescribedDevice:
    """A fake driver: a compilation asks it only for the target."""

    def get_current_target(self) -> Any:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return device


class Compiling:
    """A fake ``wrap_triton`` that compiles a kernel for its arguments and launches nothing."""

    def __init__(self) -> None:
        self.compiled: list[Any] = []

    def __call__(self, kernel: Any) -> Any:
        class Launches:
            def __getitem__(launches, grid: tuple[int, ...]) -> Any:  # noqa: N805
                return lambda *arguments, **constants: self.compiled.append(
                    kernel.warmup(*arguments, grid=grid, **constants)
                )

        return Launches()


def compiled_kernels(dtypes: list[torch.dtype]) -> Iterator[tuple[str, Any]]:
    """Compile each distinct kernel that the networks launch once; yield label and kernel."""
    triton.runtime.driver.set_active(DescribedDevice())
    compiling = Compiling()
    for module in (
        activated,
        mixing,
        matrix,
        paired,
        depthwise,
        excite,
        label_map,
        position_norm,
        response_norm,
        roi_align,
    ):
        setattr(module, "wrap_triton", compiling)  # noqa: B010 - mypy knows no such attribute
    for kernel in ("_pairs_kernel", "_keep_kernel"):
        setattr(nms, kernel, compiling(getattr(nms, kernel)))
    seen = set()
    for dtype in dtypes:
        for label in _dense(dtype):
            yield f"{label}, {dtype}", compiling.compiled.pop()
        for (variant, *size), config in INPUTS.items():
            for launches in (_mixings, _depthwise, _excitations, _entries, _hidden_maps):
                for label in launches(config, size, dtype):
                    kernel = compiling.compiled.pop()
                    if kernel.hash not in seen:
                        seen.add(kernel.hash)
                        yield f"{label}, {variant} at {size[0]}x{size[1]}, {dtype}", kernel


def _mixings(config: BackboneConfig, size: list[int], dtype: torch.dtype) -> Iterator[str]:
    for stage in (2, 3):
        kernel_size, channels = config.kernel_sizes[stage], config.channels[stage]
        groups = 2 * config.focus_heads[stage - 2]
        # A smaller map is enlarged to the window's size.
        height, width = (max(side // STRIDES[stage], kernel_size) for side in size)
        small, large = config.small_kernel, kernel_size
        query_width = channels // 2 // groups
        for order in triton_orders(dtype, large, width):
            mixing.context_mixing_triton(
                _features(2, channels, height, width, dtype),
                _features(2, channels // 2, height, width, dtype),
                torch.empty(2, small**2 + large**2, groups, query_width, dtype=dtype).transpose(
                    1, 2
                ),
                torch.empty(groups, small, small, small**2, dtype=dtype),
                torch.empty(groups, large, large, large**2, dtype=dtype),
                order,
            )
            yield f"ContMix {large}x{large} of {channels} channels, {order}"


def _depthwise(config: BackboneConfig, size: list[int], dtype: torch.dtype) -> Iterator[str]:
    stages = zip(config.kernel_sizes, config.channels, STRIDES, strict=True)
    for kernel_size, channels, stride in stages:
        features = _features(2, channels, size[0] // stride, size[1] // stride, dtype)
        weight = torch.zeros(channels, 1, kernel_size, kernel_size, dtype=dtype)
        taps = lay_out(weight)
        bias = torch.zeros(channels, dtype=dtype)
        for tile in triton_tiles(dtype, channels, kernel_size):
            if tile in paired.PAIRS:
                paired.depthwise_paired_triton(features, weight, bias, True, tile)
            elif tile in matrix.TILES:
                matrix.depthwise_matrix_triton(features, taps, bias, True, tile)
            else:
                depthwise.large_depthwise_triton(features, taps, bias, True, tile)
            yield f"depthwise {kernel_size}x{kernel_size} of {channels} channels, {tile} tiles"


def _excitations(config: BackboneConfig, size: list[int], dtype: torch.dtype) -> Iterator[str]:
    """Launch squeeze-excite of maps or weights, and of the focus net's maps by their own sums."""
    for stage, (channels, stride) in enumerate(zip(config.channels, STRIDES, strict=True)):
        hidden_channels = max(16, channels // 8)
        height, width = (side // stride for side in size)
        matrix_of = torch.empty(hidden_channels, channels, dtype=dtype)
        bias = torch.empty(channels, dtype=dtype)
        layers = (matrix_of, bias[:hidden_channels], matrix_of, bias)
        sums = torch.empty(2, 8, channels)
        rows = torch.empty(2, height * width, channels, dtype=dtype)
        is_weight = scales_weight(config.hidden_channels(stage), height, width)
        for tile in scaled_rows.TILES:
            scaled = rows[:1] if is_weight else rows
            excite.squeeze_excite_triton(scaled, sums, height * width, *layers, None, tile)
            yield f"squeeze-excite of {channels} channels, {tile} rows"
            if stage >= 2:
                excite.squeeze_excite_triton(rows, None, height * width, *layers, rows, tile)
                yield f"squeeze-excite of {channels} channels by their own sums, {tile} rows"
                response_norm.response_norm_triton(rows, None, bias, bias, tile)
                yield f"response norm of {channels} channels by their own squares, {tile} rows"


def _entries(config: BackboneConfig, size: list[int], dtype: torch.dtype) -> Iterator[str]:
    """Launch position convolutions and their layer norms."""
    joint = [channels + config.context_channels for channels in config.channels[2:]]
    for channels, stride in zip([*config.channels, *joint], [*STRIDES, *STRIDES[2:]], strict=True):
        features = _features(2, channels, size[0] // stride, size[1] // stride, dtype)
        bias, taps = torch.empty(channels, dtype=dtype), torch.empty(9, channels, dtype=dtype)
        contexts: list[tuple[Tensor | None, Tensor | None]] = [(None, None)]
        if channels in joint:  # the exits of dynamic blocks
            contexts.append((features[:, : config.context_channels], bias))
        for tile in activated.TILES:
            if channels in joint:  # the fused convolutions of dynamic blocks
                activated.depthwise_gelu_triton(features, taps, bias, tile)
                yield f"GELU behind depthwise of {channels} channels, {tile} strips"
        for tile in position_norm.TILES:
            for context in contexts:
                vectors = (bias,) * 5
                position_norm.position_norm_triton(features, taps, *vectors, *context, tile)
                yield f"position and norm of {channels} channels, {tile} pixels"


def _hidden_maps(config: BackboneConfig, size: list[int], dtype: torch.dtype) -> Iterator[str]:
    """Launch what lies between a feed-forward part's two products."""
    parts = [(config.hidden_channels(stage), config.channels[stage]) for stage in range(4)]
    parts += [
        (config.focus_hidden_channels(stage), config.channels[stage] + config.context_channels)
        for stage in (2, 3)
    ]
    for (channels, out_channels), stride in zip(parts, [*STRIDES, *STRIDES[2:]], strict=True):
        features = _features(2, channels, size[0] // stride, size[1] // stride, dtype)
        bias, taps = torch.empty(channels, dtype=dtype), torch.empty(9, channels, dtype=dtype)
        for tile in activated.TILES:
            _, squares = activated.activated_depthwise_triton(features, bias, taps, bias, tile)
            yield f"activated depthwise of {channels} channels, {tile} strips"
        rows = torch.empty(2, 49, channels, dtype=dtype)
        if scales_weight(out_channels, size[0] // stride, size[1] // stride):
            rows = rows[:1]
        for tile in scaled_rows.TILES:
            response_norm.response_norm_triton(rows, squares, bias, bias, tile)
            yield f"response norm of {channels} channels, {tile} rows"


def _dense(dtype: torch.dtype) -> Iterator[str]:
    """Launch what segmenters and detectors need beside the backbone."""
    logits = torch.empty(150, 128, 176, dtype=dtype)
    for rows in (960, 400, 100, 20):
        label_map.label_map_triton(logits, 512, 704, rows, 1280)
        yield f"label map of {rows} rows"
    levels = [_features(1, 256, 200 >> i, 336 >> i, dtype)[0] for i in range(4)]
    for side in (7, 14):
        roi_align.roi_align_triton(levels, torch.empty(100, 4), side, STRIDES[0], 56)
        yield f"RoIAlign {side}x{side}"
    boxes = torch.zeros(4741, 4)
    nms.nms_triton(boxes, boxes[:, 0], torch.zeros(4741, dtype=torch.int64), 0.7)
    yield from ("NMS, kept boxes", "NMS, pairs")  # the last kernel is taken first


def _features(batch: int, channels: int, height: int, width: int, dtype: torch.dtype) -> Tensor:
    return torch.empty(batch, channels, height, width, dtype=dtype, memory_format=LAST)


def resources(kernel: Any) -> dict[str, int]:
    """Return a program's resources, and its number of loads, shuffles and multiplications."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        tool = TOOLS / "cuobjdump"
        usage = subprocess.run(
            [tool, "-res-usage", file.name], capture_output=True, text=True, check=True, timeout=60
        ).stdout
    used = {name: int(count) for name, count in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage)}
    ptx = kernel.asm["ptx"]
    return {
        "warps": kernel.metadata.num_warps,
        "shared_bytes": kernel.metadata.shared,
        "registers": used["REG"],
        "spilled_bytes": used["STACK"] + used["LOCAL"],
        "loads": len(re.findall(r"ld\.global|cp\.async\.c[ag]", ptx)),
        "shuffles": ptx.count("shfl.sync.idx"),
        "matrix_products": ptx.count("mma.sync"),
        "multiply_adds": ptx.count("fma.rn"),
    }


if __name__ == "__main__":
    for label, kernel in compiled_kernels([getattr(torch, name) for name in sys.argv[1:]]):
        sys.stdout.write(json.dumps({"kernel": label, **resources(kernel)}) + "\n")

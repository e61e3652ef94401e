"""Names of parameters, the authors' and ours: one table translates both ways.

Source: the authors' release files; ``docs/adr/0002-parameter-names.md``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache, lru_cache, partial

from torch import Tensor, nn

Pair = tuple[str, str]
"""The authors' part of a name and ours. Braces stand for what both have: see ``PLACEHOLDERS``.

A part begins where the name does, or anywhere if it begins with a full stop.
"""

PLACEHOLDERS = {
    "basic": r"backbone\.(?:stage\d|overview)\.\d+",
    "box": r"roi_heads\.box_heads\.\d+",
    "dynamic": r"backbone\.focus\d\.\d+",
    "focus": r"[34]",
    "kernel": r"k\d+_\d+",
    "large": r"large_kernel|local",
    "layer": r".*",
    "mask": r"roi_heads\.mask_heads\.\d+",
    "n": r"\d+",
    "stage": r"[123]",
}

BACKBONE: tuple[Pair, ...] = (
    # position in the network
    ("patch_embed1.0.", "backbone.stem.layers.0.conv."),
    ("patch_embed1.1.", "backbone.stem.layers.0.norm."),
    ("patch_embed1.3.", "backbone.stem.layers.1.conv."),
    ("patch_embed1.4.", "backbone.stem.layers.1.norm."),
    ("patch_embed1.6.", "backbone.stem.layers.2.conv."),
    ("patch_embed1.7.", "backbone.stem.layers.2.norm."),
    ("patch_embed1.9.", "backbone.stem.layers.3.conv."),
    ("patch_embed1.10.", "backbone.stem.layers.3.norm."),
    ("patch_embed4.0.", "backbone.overview_downsample.conv."),
    ("patch_embed4.1.", "backbone.overview_downsample.norm."),
    ("patch_embed{stage}.0.", "backbone.downsample{stage}.conv."),
    ("patch_embed{stage}.1.", "backbone.downsample{stage}.norm."),
    ("patch_embedx.x_proj.0.", "backbone.features_downsample.conv."),
    ("patch_embedx.x_proj.1.", "backbone.features_downsample.norm."),
    ("patch_embedx.h_proj.0.", "backbone.context_downsample.conv."),
    ("patch_embedx.h_proj.1.", "backbone.context_downsample.norm."),
    ("high_level_proj.", "backbone.context_projection."),
    ("blocks{stage}.", "backbone.stage{stage}."),
    ("blocks4.", "backbone.overview."),
    ("sub_blocks{focus}.", "backbone.focus{focus}."),
    # a dense backbone
    ("extra_norm.4.", "backbone.overview_norm."),
    ("extra_norm.{n}.", "backbone.dense_norms.{n}."),
    ("h_proj.0.", "backbone.overview_to_dense.conv."),
    ("h_proj.1.", "backbone.overview_to_dense.scale."),
    # the basic block
    ("{basic}.dwconv.", "{basic}.position.conv."),
    ("{basic}.proj.0.", "{basic}.norm."),
    ("{basic}.proj.1.", "{basic}.large_kernel.conv."),
    ("{basic}.proj.2.", "{basic}.large_kernel.norm."),
    ("{basic}.proj.3.", "{basic}.squeeze_excite."),
    ("{basic}.proj.4.", "{basic}.feed_forward.expand."),
    ("{basic}.proj.6.", "{basic}.feed_forward.position.conv."),
    ("{basic}.proj.7.", "{basic}.feed_forward.response_norm."),
    ("{basic}.proj.8.", "{basic}.feed_forward.project."),
    ("{basic}.ls.", "{basic}.identity_scale."),
    # the dynamic block
    ("{dynamic}.x_scale.", "{dynamic}.context_scale."),
    ("{dynamic}.h_scale.", "{dynamic}.initial_context_scale."),
    ("{dynamic}.dwconv1.", "{dynamic}.position_in.conv."),
    ("{dynamic}.norm1.", "{dynamic}.norm_in."),
    ("{dynamic}.fusion.0.", "{dynamic}.fuse_position.conv."),
    ("{dynamic}.fusion.1.", "{dynamic}.fuse_position.norm."),
    ("{dynamic}.fusion.3.", "{dynamic}.fuse_project."),
    ("{dynamic}.fusion.4.", "{dynamic}.fuse_norm."),
    ("{dynamic}.gate.0.", "{dynamic}.gate.conv."),
    ("{dynamic}.gate.1.", "{dynamic}.gate.norm."),
    ("{dynamic}.lepe.0.", "{dynamic}.local.conv."),
    ("{dynamic}.lepe.1.", "{dynamic}.local.norm."),
    ("{dynamic}.weight_query.0.", "{dynamic}.context_mixing.query.conv."),
    ("{dynamic}.weight_query.1.", "{dynamic}.context_mixing.query.norm."),
    ("{dynamic}.weight_key.1.", "{dynamic}.context_mixing.key.conv."),
    ("{dynamic}.weight_key.2.", "{dynamic}.context_mixing.key.norm."),
    ("{dynamic}.weight_proj.", "{dynamic}.context_mixing.mix_weights."),
    ("{dynamic}.rpb1", "{dynamic}.context_mixing.small_position_bias"),
    ("{dynamic}.rpb2", "{dynamic}.context_mixing.large_position_bias"),
    ("{dynamic}.dyconv_proj.0.", "{dynamic}.mixed_project.conv."),
    ("{dynamic}.dyconv_proj.1.", "{dynamic}.mixed_project.norm."),
    ("{dynamic}.se_layer.", "{dynamic}.squeeze_excite."),
    ("{dynamic}.proj.0.", "{dynamic}.project.norm."),
    ("{dynamic}.proj.1.", "{dynamic}.project.conv."),
    ("{dynamic}.ls1.", "{dynamic}.identity_scale."),
    ("{dynamic}.dwconv2.", "{dynamic}.position_out.conv."),
    ("{dynamic}.norm2.", "{dynamic}.norm_out."),
    ("{dynamic}.mlp.0.", "{dynamic}.feed_forward.expand."),
    ("{dynamic}.mlp.2.", "{dynamic}.feed_forward.position.conv."),
    ("{dynamic}.mlp.3.", "{dynamic}.feed_forward.response_norm."),
    ("{dynamic}.mlp.4.", "{dynamic}.feed_forward.project."),
    ("{dynamic}.ls2.", "{dynamic}.output_scale."),
    # parts of both blocks
    (".squeeze_excite.proj.1.", ".squeeze_excite.reduce."),
    (".squeeze_excite.proj.3.", ".squeeze_excite.expand."),
    (".{large}.conv.origin_bn.", ".{large}.conv.large.norm."),
    (".{large}.conv.dil_conv_{kernel}.", ".{large}.conv.dilated.{kernel}.conv."),
    (".{large}.conv.dil_bn_{kernel}.", ".{large}.conv.dilated.{kernel}.norm."),
)

BRANCHED: Pair = (".{large}.conv.lk_origin.", ".{large}.conv.large.conv.")
MERGED: Pair = (".{large}.conv.lk_origin.", ".{large}.conv.")
"""The same official name is another parameter once the large kernels' branches are merged."""

CLASSIFIER: tuple[Pair, ...] = (
    ("head.0.", "head.project.conv."),
    ("head.1.", "head.project.norm."),
    ("head.4.", "head.classify."),
    ("aux_head.0.", "overview_head.norm."),
    ("aux_head.2.", "overview_head.classify."),
)

SEGMENTER: tuple[Pair, ...] = (
    ("decode_head.psp_modules.{n}.1.", "head.pooled.{n}."),
    ("decode_head.bottleneck.", "head.bottleneck."),
    ("decode_head.lateral_convs.{n}.", "head.laterals.{n}."),
    ("decode_head.fpn_convs.{n}.", "head.smooth.{n}."),
    ("decode_head.fpn_bottleneck.", "head.fuse."),
    ("decode_head.conv_seg.", "head.classify."),
    ("head.{layer}.bn.", "head.{layer}.norm."),
)
"""mmsegmentation's names of UPerHead."""

NUMBERED_HEADS: tuple[Pair, ...] = (
    ("roi_head.bbox_head.{n}.", "roi_heads.box_heads.{n}."),
    ("roi_head.mask_head.{n}.", "roi_heads.mask_heads.{n}."),
)
"""The heads of a cascade."""

SINGLE_HEADS: tuple[Pair, ...] = (
    ("roi_head.bbox_head.", "roi_heads.box_heads.0."),
    ("roi_head.mask_head.", "roi_heads.mask_heads.0."),
)

DETECTOR: tuple[Pair, ...] = (
    ("neck.lateral_convs.{n}.conv.", "neck.laterals.{n}."),
    ("neck.fpn_convs.{n}.conv.", "neck.outputs.{n}."),
    ("rpn_head.rpn_conv.", "rpn.conv."),
    ("rpn_head.rpn_cls.", "rpn.classify."),
    ("rpn_head.rpn_reg.", "rpn.regress."),
    ("{box}.shared_fcs.{n}.", "{box}.shared.{n}."),
    ("{box}.fc_cls.", "{box}.classify."),
    ("{box}.fc_reg.", "{box}.regress."),
    ("{mask}.convs.{n}.conv.", "{mask}.convs.{n}."),
    ("{mask}.conv_logits.", "{mask}.classify."),
)
"""mmdetection's names of the feature pyramid, the proposal network, box heads and mask heads."""

PREFIXES = (
    # of PyTorch's data parallelism and compiler
    re.compile(r"^((module|_orig_mod)\.)+"),
    # of mmsegmentation and mmdetection for the same backbone
    re.compile(
        r"^backbone\.(?=(patch_embed|blocks|sub_blocks|high_level_proj|extra_norm|h_proj"
        r"|(aux_)?head\.))"
    ),
)

DENSE_HEADS = ("decode_head.", "neck.", "rpn_head.", "roi_head.")
"""Beginnings of the authors' names outside of a dense backbone."""

NOT_LOADED = re.compile(r"^auxiliary_head\.")
NOT_LOADED_IN_DENSE_FILES = re.compile(r"^(auxiliary_head|aux_head)\.")
"""Heads that only training needs, whose task here is another one than the network's."""

REMEMBERED_NAMES = 16_384
"""Names kept with their translations; the largest network has 4,868 entries."""


def naming_of(names: Iterable[str]) -> Callable[[str], str | None]:
    """Return the translation of the authors' names for a file with these entries.

    The same official name means different parameters before and after the large kernels' branches
    are merged, so the rules depend on all names of the file.

    Returns:
        A function from an entry's name to ours, or to None if no network has the entry. A name
        that no rule knows stays as it is, so that strict loading reports it.
    """
    names = [_without_prefixes(name) for name in names]
    return partial(
        _our_name,
        merged=not any(".dil_conv_" in name for name in names),
        dense=any(name.startswith(DENSE_HEADS) for name in names),
    )


def official_naming_of(names: Iterable[str]) -> Callable[[str], str]:
    """Return the translation of our names into the authors', for a network with these entries.

    Args:
        names: of the network's whole state, in its trained form.
    """
    names = list(names)
    tables: list[Sequence[Pair]] = [BACKBONE]
    if any(name.startswith("rpn.") for name in names):
        numbered = any(name.startswith("roi_heads.box_heads.1.") for name in names)
        tables += [NUMBERED_HEADS if numbered else SINGLE_HEADS, DETECTOR]
    elif any(name.startswith("head.pooled.") for name in names):
        tables.append(SEGMENTER)
    else:
        tables.append(CLASSIFIER)
    merged = not any(".conv.dilated." in name for name in names)
    pairs = (*(pair for table in tables for pair in table), MERGED if merged else BRANCHED)
    return partial(_official_name, pairs=pairs, dense=CLASSIFIER not in tables)


def official_state(network: nn.Module) -> dict[str, Tensor]:
    """Return a network's state under the authors' names, so that their code can train it further.

    Args:
        network: of ``create_model(..., fused=False)``, branches merged or not.

    Returns:
        What the authors' code, mmsegmentation or mmdetection saves: every entry, the norms'
        counters and the auxiliary head included. The tensors are the network's own.

    Raises:
        ValueError: if the network is folded, which has no norms left.
    """
    state = network.state_dict()
    if not any(name.endswith(".running_mean") for name in state):
        raise ValueError(
            "A folded network has no norms left, and no state in the authors' names: create it "
            "with fused=False."
        )
    official_name = official_naming_of(state)
    return {official_name(name): tensor for name, tensor in state.items()}


def _without_prefixes(name: str) -> str:
    for prefix in PREFIXES:
        name = prefix.sub("", name)
    return name


@lru_cache(REMEMBERED_NAMES)
def _our_name(official: str, *, merged: bool, dense: bool) -> str | None:
    name = _without_prefixes(official)
    if (NOT_LOADED_IN_DENSE_FILES if dense else NOT_LOADED).search(name):
        return None
    for pattern, replacement in _rules(merged=merged):
        name = pattern.sub(replacement, name)
    return name


@cache
def _rules(*, merged: bool) -> list[tuple[re.Pattern[str], str]]:
    pairs = (
        *BACKBONE,
        *CLASSIFIER,
        *SEGMENTER,
        *NUMBERED_HEADS,
        *SINGLE_HEADS,
        *DETECTOR,
        MERGED if merged else BRANCHED,
    )
    return [_rule(official, ours) for official, ours in pairs]


def _official_name(name: str, *, pairs: tuple[Pair, ...], dense: bool) -> str:
    for official, ours in reversed(pairs):
        pattern, replacement = _rule(ours, official)
        name = pattern.sub(replacement, name)
    return f"backbone.{name}" if dense and not name.startswith(DENSE_HEADS) else name


@cache
def _rule(part: str, replacement: str) -> tuple[re.Pattern[str], str]:
    """Return the pattern of a part of a name, and what ``re.sub`` makes of it."""
    pattern = re.escape(part)
    for name, what in PLACEHOLDERS.items():
        pattern = pattern.replace(rf"\{{{name}\}}", f"(?P<{name}>{what})", 1)
        replacement = replacement.replace(f"{{{name}}}", rf"\g<{name}>")
    beginning = "" if part.startswith(".") else "^"
    end = "" if part.endswith(".") else "$"
    return re.compile(f"{beginning}{pattern}{end}"), replacement

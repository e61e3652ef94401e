"""Translation of the authors' parameter names to ours: rules that are applied once, in order.

Source: the authors' release files; ``docs/adr/0002-parameter-names.md``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache, lru_cache, partial

IGNORED = (
    r"(^|\.)num_batches_tracked$",
    r"^((module|_orig_mod)\.)*(backbone\.)?aux_head\.",
    r"^((module|_orig_mod)\.)*auxiliary_head\.",
)
"""Entries that inference has no use for: norm counters, the training-time auxiliary heads."""

RENAMING: tuple[tuple[str, str], ...] = (
    # prefixes of PyTorch's data parallelism and compiler
    (r"^((module|_orig_mod)\.)+", ""),
    # prefix of mmsegmentation and mmdetection for the same backbone
    (
        r"^backbone\.(?=(patch_embed|blocks|sub_blocks|high_level_proj|extra_norm|h_proj|head\.))",
        "",
    ),
    # position in the network
    (r"^patch_embed1\.(0|3|6|9)\.", r"backbone.stem.layers.<\1>.conv."),
    (r"^patch_embed1\.(1|4|7|10)\.", r"backbone.stem.layers.<\1>.norm."),
    (r"^patch_embed([23])\.0\.", r"backbone.downsample\1.conv."),
    (r"^patch_embed([23])\.1\.", r"backbone.downsample\1.norm."),
    (r"^patch_embed4\.0\.", r"backbone.overview_downsample.conv."),
    (r"^patch_embed4\.1\.", r"backbone.overview_downsample.norm."),
    (r"^patch_embedx\.x_proj\.0\.", r"backbone.features_downsample.conv."),
    (r"^patch_embedx\.x_proj\.1\.", r"backbone.features_downsample.norm."),
    (r"^patch_embedx\.h_proj\.0\.", r"backbone.context_downsample.conv."),
    (r"^patch_embedx\.h_proj\.1\.", r"backbone.context_downsample.norm."),
    (r"^high_level_proj\.", r"backbone.context_projection."),
    (r"^blocks([123])\.", r"backbone.stage\1."),
    (r"^blocks4\.", r"backbone.overview."),
    (r"^sub_blocks([34])\.", r"backbone.focus\1."),
    (r"^head\.0\.", r"head.project.conv."),
    (r"^head\.1\.", r"head.project.norm."),
    (r"^head\.4\.", r"head.classify."),
    (r"^extra_norm\.([0-3])\.", r"backbone.dense_norms.\1."),
    (r"^extra_norm\.4\.", r"backbone.overview_norm."),
    (r"^h_proj\.0\.", r"backbone.overview_to_dense.conv."),
    (r"^h_proj\.1\.", r"backbone.overview_to_dense.scale."),
    # the stem's layers, counted without the activations between them
    (r"<(0|1)>", "0"),
    (r"<(3|4)>", "1"),
    (r"<(6|7)>", "2"),
    (r"<(9|10)>", "3"),
    # the basic block
    (r"^(backbone\.(?:stage\d|overview)\.\d+)\.dwconv\.", r"\1.position.conv."),
    (r"^(backbone\.(?:stage\d|overview)\.\d+)\.proj\.0\.", r"\1.norm."),
    (r"^(backbone\.(?:stage\d|overview)\.\d+)\.proj\.1\.", r"\1.large_kernel.conv."),
    (r"^(backbone\.(?:stage\d|overview)\.\d+)\.proj\.2\.", r"\1.large_kernel.norm."),
    (r"^(backbone\.(?:stage\d|overview)\.\d+)\.proj\.3\.", r"\1.squeeze_excite."),
    (r"^(backbone\.(?:stage\d|overview)\.\d+)\.proj\.4\.", r"\1.feed_forward.expand."),
    (r"^(backbone\.(?:stage\d|overview)\.\d+)\.proj\.6\.", r"\1.feed_forward.position.conv."),
    (r"^(backbone\.(?:stage\d|overview)\.\d+)\.proj\.7\.", r"\1.feed_forward.response_norm."),
    (r"^(backbone\.(?:stage\d|overview)\.\d+)\.proj\.8\.", r"\1.feed_forward.project."),
    (r"^(backbone\.(?:stage\d|overview)\.\d+)\.ls\.", r"\1.identity_scale."),
    # the dynamic block
    (r"^(backbone\.focus\d\.\d+)\.x_scale\.", r"\1.context_scale."),
    (r"^(backbone\.focus\d\.\d+)\.h_scale\.", r"\1.initial_context_scale."),
    (r"^(backbone\.focus\d\.\d+)\.dwconv1\.", r"\1.position_in.conv."),
    (r"^(backbone\.focus\d\.\d+)\.norm1\.", r"\1.norm_in."),
    (r"^(backbone\.focus\d\.\d+)\.fusion\.0\.", r"\1.fuse_position.conv."),
    (r"^(backbone\.focus\d\.\d+)\.fusion\.1\.", r"\1.fuse_position.norm."),
    (r"^(backbone\.focus\d\.\d+)\.fusion\.3\.", r"\1.fuse_project."),
    (r"^(backbone\.focus\d\.\d+)\.fusion\.4\.", r"\1.fuse_norm."),
    (r"^(backbone\.focus\d\.\d+)\.gate\.0\.", r"\1.gate.conv."),
    (r"^(backbone\.focus\d\.\d+)\.gate\.1\.", r"\1.gate.norm."),
    (r"^(backbone\.focus\d\.\d+)\.lepe\.0\.", r"\1.local.conv."),
    (r"^(backbone\.focus\d\.\d+)\.lepe\.1\.", r"\1.local.norm."),
    (r"^(backbone\.focus\d\.\d+)\.weight_query\.0\.", r"\1.context_mixing.query.conv."),
    (r"^(backbone\.focus\d\.\d+)\.weight_query\.1\.", r"\1.context_mixing.query.norm."),
    (r"^(backbone\.focus\d\.\d+)\.weight_key\.1\.", r"\1.context_mixing.key.conv."),
    (r"^(backbone\.focus\d\.\d+)\.weight_key\.2\.", r"\1.context_mixing.key.norm."),
    (r"^(backbone\.focus\d\.\d+)\.weight_proj\.", r"\1.context_mixing.mix_weights."),
    (r"^(backbone\.focus\d\.\d+)\.rpb1$", r"\1.context_mixing.small_position_bias"),
    (r"^(backbone\.focus\d\.\d+)\.rpb2$", r"\1.context_mixing.large_position_bias"),
    (r"^(backbone\.focus\d\.\d+)\.dyconv_proj\.0\.", r"\1.mixed_project.conv."),
    (r"^(backbone\.focus\d\.\d+)\.dyconv_proj\.1\.", r"\1.mixed_project.norm."),
    (r"^(backbone\.focus\d\.\d+)\.se_layer\.", r"\1.squeeze_excite."),
    (r"^(backbone\.focus\d\.\d+)\.proj\.0\.", r"\1.project.norm."),
    (r"^(backbone\.focus\d\.\d+)\.proj\.1\.", r"\1.project.conv."),
    (r"^(backbone\.focus\d\.\d+)\.ls1\.", r"\1.identity_scale."),
    (r"^(backbone\.focus\d\.\d+)\.dwconv2\.", r"\1.position_out.conv."),
    (r"^(backbone\.focus\d\.\d+)\.norm2\.", r"\1.norm_out."),
    (r"^(backbone\.focus\d\.\d+)\.mlp\.0\.", r"\1.feed_forward.expand."),
    (r"^(backbone\.focus\d\.\d+)\.mlp\.2\.", r"\1.feed_forward.position.conv."),
    (r"^(backbone\.focus\d\.\d+)\.mlp\.3\.", r"\1.feed_forward.response_norm."),
    (r"^(backbone\.focus\d\.\d+)\.mlp\.4\.", r"\1.feed_forward.project."),
    (r"^(backbone\.focus\d\.\d+)\.ls2\.", r"\1.output_scale."),
    # parts of both blocks
    (r"\.squeeze_excite\.proj\.1\.", ".squeeze_excite.reduce."),
    (r"\.squeeze_excite\.proj\.3\.", ".squeeze_excite.expand."),
    (r"\.conv\.origin_bn\.", ".conv.large.norm."),
    (r"\.conv\.dil_conv_(k\d+_\d+)\.", r".conv.dilated.\1.conv."),
    (r"\.conv\.dil_bn_(k\d+_\d+)\.", r".conv.dilated.\1.norm."),
)
"""Patterns of the authors' names, and the replacements that make them ours."""

SEGMENTER_RENAMING: tuple[tuple[str, str], ...] = (
    (r"^decode_head\.psp_modules\.([0-3])\.1\.", r"head.pooled.\1."),
    (r"^decode_head\.bottleneck\.", r"head.bottleneck."),
    (r"^decode_head\.lateral_convs\.([0-2])\.", r"head.laterals.\1."),
    (r"^decode_head\.fpn_convs\.([0-2])\.", r"head.smooth.\1."),
    (r"^decode_head\.fpn_bottleneck\.", r"head.fuse."),
    (r"^decode_head\.conv_seg\.", r"head.classify."),
    (r"^(head\..*)\.bn\.", r"\1.norm."),
)
"""mmsegmentation's names of UPerHead."""

DETECTOR_RENAMING: tuple[tuple[str, str], ...] = (
    (r"^neck\.lateral_convs\.([0-3])\.conv\.", r"neck.laterals.\1."),
    (r"^neck\.fpn_convs\.([0-3])\.conv\.", r"neck.outputs.\1."),
    (r"^rpn_head\.rpn_conv\.", r"rpn.conv."),
    (r"^rpn_head\.rpn_cls\.", r"rpn.classify."),
    (r"^rpn_head\.rpn_reg\.", r"rpn.regress."),
    # the heads of a cascade are numbered
    (r"^roi_head\.bbox_head\.(\d)\.", r"roi_heads.box_heads.\1."),
    (r"^roi_head\.bbox_head\.", r"roi_heads.box_heads.0."),
    (r"^roi_head\.mask_head\.(\d)\.", r"roi_heads.mask_heads.\1."),
    (r"^roi_head\.mask_head\.", r"roi_heads.mask_heads.0."),
    (r"^(roi_heads\.box_heads\.\d)\.shared_fcs\.([01])\.", r"\1.shared.\2."),
    (r"^(roi_heads\.box_heads\.\d)\.fc_cls\.", r"\1.classify."),
    (r"^(roi_heads\.box_heads\.\d)\.fc_reg\.", r"\1.regress."),
    (r"^(roi_heads\.mask_heads\.\d)\.convs\.([0-3])\.conv\.", r"\1.convs.\2."),
    (r"^(roi_heads\.mask_heads\.\d)\.conv_logits\.", r"\1.classify."),
)
"""mmdetection's names of the feature pyramid, the proposal network, box heads and mask heads."""

REMEMBERED_NAMES = 16_384
"""Names kept with their translations; the largest network has 4,868 entries."""

LARGE_KERNEL_BRANCHED = (r"\.conv\.lk_origin\.", ".conv.large.conv.")
LARGE_KERNEL_MERGED = (r"\.conv\.lk_origin\.", ".conv.")


def naming_of(names: Iterable[str]) -> Callable[[str], str | None]:
    """Return the renaming for a file with these entries.

    The same official name means different parameters before and after the large kernels' branches
    are merged, so the rules depend on all names of the file.

    Returns:
        A function from an entry's name to ours, or to None if inference ignores the entry. A name
        that no rule knows stays as it is, so that strict loading reports it.
    """
    merged = not any(".dil_conv_" in name for name in names)
    return partial(_our_name, merged=merged)


@lru_cache(REMEMBERED_NAMES)
def _our_name(official: str, *, merged: bool) -> str | None:
    if any(re.search(pattern, official) for pattern in IGNORED):
        return None
    name = official
    for pattern, replacement in _rules(merged=merged):
        name = pattern.sub(replacement, name)
    return name


@cache
def _rules(*, merged: bool) -> list[tuple[re.Pattern[str], str]]:
    return [
        (re.compile(pattern), replacement)
        for pattern, replacement in (
            *RENAMING,
            *SEGMENTER_RENAMING,
            *DETECTOR_RENAMING,
            LARGE_KERNEL_MERGED if merged else LARGE_KERNEL_BRANCHED,
        )
    ]

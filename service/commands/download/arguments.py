"""The options of ``overlock download``. Torch-free, so that help is fast."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

from model.pretrained.assets import ASSETS, RELEASE_PAGE, PretrainedError, asset_of
from model.remote.addresses import RemoteError, check_address, is_address

DESCRIPTION = """\
Download the weights that the authors published, verify them, and keep them for weights=pretrained;
or those of an address (hf://, s3://, gs://, https://), which are pinned and kept for it.

An interrupted download is resumed. The path of the kept file is printed on the standard output, a
line for each name. Proxies (HTTPS_PROXY) and certificates (SSL_CERT_FILE) are used as set."""

_NAMES = textwrap.fill(", ".join(ASSETS), 96, initial_indent="  ", subsequent_indent="  ")

EPILOG = f"""\
names:
{_NAMES}

addresses:
  hf://owner/repo/file, hf://owner/repo@revision/file, s3://bucket/key, gs://bucket/key,
  https://host/file#sha256=DIGEST

on a machine without the Internet, copy the file from
{RELEASE_PAGE}
  overlock download overlock_t --from overlock_t_in1k_224.pth"""


def fill_parser(parser: argparse.ArgumentParser) -> None:
    """Give the parser of ``overlock download`` its description and options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument_group("models").add_argument(
        "names",
        nargs="+",
        type=_published,
        metavar="NAME",
        help="a model, such as overlock_t, or an address",
    )
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FILE",
        help="take this file, which the authors published for NAME, and use no network",
    )
    add_cache_dir(parser)


def add_cache_dir(parser: argparse._ActionsContainer) -> None:
    """Add the option that says where pretrained weights are kept."""
    parser.add_argument(
        "--cache-dir",
        type=Path,
        metavar="DIR",
        help="keep weights in DIR/weights, those of a hub in its own cache [OVERLOCK_CACHE_DIR, "
        "or overlock-service in the user's cache folder]",
    )


def _published(name: str) -> str:
    try:
        if is_address(name):
            check_address(name)
            return name
        return asset_of(name).model
    except (PretrainedError, RemoteError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error

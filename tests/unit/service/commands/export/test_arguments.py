"""The options of an export."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from service.commands.export.arguments import fill_parser


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    fill_parser(parser)
    return parser.parse_args(words)


def test_a_model_a_format_and_a_file_suffice() -> None:
    arguments = parsed("onnx", "overlock_t", "--weights", "pretrained", "-o", "t.onnx")
    assert (arguments.format, arguments.name) == ("onnx", "overlock_t")
    assert (arguments.output, arguments.size, arguments.image) == (Path("t.onnx"), None, None)


def test_a_segmenter_takes_several_sizes() -> None:
    sizes = ("--size", "512x704", "--size", "704x512")
    arguments = parsed("torch", "upernet_overlock_t", *sizes, "-o", "t.pt2")
    assert arguments.size == [(512, 704), (704, 512)]


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ("512", "'512' is not height x width, such as 512x704"),
        ("512x700", "512x700: 700 is not a multiple of 32 from 64 to 4096"),
        ("32x64", "32x64: 32 is not a multiple of 32 from 64 to 4096"),
        ("64x8192", "64x8192: 8192 is not a multiple of 32 from 64 to 4096"),
    ],
)
def test_a_size_that_cannot_be_is_refused(
    size: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parsed("onnx", "demo", "--task", "segment", "--size", size, "-o", "d.onnx")
    assert message in capsys.readouterr().err

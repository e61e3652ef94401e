"""An ONNX file computes the network's function, and says what it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from model.export.onnx_file import OPSET, OnnxFile, write_onnx
from support.exported import METADATA, small_program, some_images

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "small.onnx"
    write_onnx(small_program()[0], METADATA, path, producer_version="1.2.3")
    return path


def dimensions(value: onnx.ValueInfoProto) -> list[str | int]:
    return [each.dim_param or each.dim_value for each in value.type.tensor_type.shape.dim]


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_a_file_takes_any_number_of_images(path: Path, batch: int) -> None:
    expected = small_program()[1][:batch]
    # float32: sums in another order, of logits near 1
    np.testing.assert_allclose(OnnxFile(path)(some_images()[:batch]), expected, rtol=0, atol=1e-5)


def test_a_file_says_what_goes_in_and_comes_out(path: Path) -> None:
    model = onnx.load(path)
    (images,), (logits,) = model.graph.input, model.graph.output
    assert (images.name, dimensions(images)) == ("images", ["batch", 3, 224, 224])
    assert (logits.name, dimensions(logits)) == ("logits", ["batch", 2])
    assert [(each.domain, each.version) for each in model.opset_import] == [("", OPSET)]
    assert {each.key: each.value for each in model.metadata_props} == METADATA
    assert (model.producer_name, model.producer_version) == ("overlock-service", "1.2.3")


def test_a_file_is_whole_and_standard(path: Path) -> None:
    model = onnx.load(path, load_external_data=False)
    assert {node.domain for node in model.graph.node} == {""}
    assert not [each for each in model.graph.initializer if each.data_location]
    assert not model.functions


def test_a_file_tells_nothing_of_the_machine_that_wrote_it(path: Path) -> None:
    contents = path.read_bytes()
    for secret in (str(ROOT), "site-packages", "fx_node", "model.backbone"):
        assert secret.encode() not in contents


def test_the_same_weights_make_the_same_file(path: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.onnx"
    write_onnx(small_program()[0], METADATA, again, producer_version="1.2.3")
    assert again.read_bytes() == path.read_bytes()

"""What stands for the objects of a pickle, so that none of them is made.

Source: torch/_utils.py and torch/_tensor.py, https://github.com/pytorch/pytorch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from model.checkpoints.inert_arrays import InertArray, InertDtype

MAPPINGS = frozenset(
    {
        "builtins.dict",
        "__builtin__.dict",
        "collections.OrderedDict",
        "collections.defaultdict",
    }
)
NAMESPACES = frozenset(
    {
        "argparse.Namespace",
        "types.SimpleNamespace",
        "addict.addict.Dict",
        "easydict.EasyDict",
        "fvcore.common.config.CfgNode",
        "lightning.fabric.utilities.data.AttributeDict",
        "lightning_fabric.utilities.data.AttributeDict",
        "mmcv.utils.config.ConfigDict",
        "mmengine.config.config.ConfigDict",
        "omegaconf.dictconfig.DictConfig",
        "omegaconf.listconfig.ListConfig",
        *(f"omegaconf.nodes.{kind}Node" for kind in ("Any", "String", "Integer", "Float")),
        "pytorch_lightning.utilities.parsing.AttributeDict",
        "yacs.config.CfgNode",
    }
)
"""Classes of options, whose attributes or entries are kept."""

ARRAYS = frozenset(f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core"))


@dataclass(frozen=True, eq=False)
class Inert:
    """Stands for an object that was not made.

    Attributes:
        name: of the class or function that the file names, with its module.
    """

    name: str


@dataclass(frozen=True, eq=False)
class InertNamespace(Inert):
    """Stands for an object of options. It is no mapping, so that no weights are sought in it.

    Attributes:
        values: its attributes and entries, as the file has them: plain values and stand-ins.
    """

    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class StoredNumbers:
    """Numbers that lie outside the pickle.

    Attributes:
        kind: the storage's class, such as "torch.FloatStorage".
        key: names the numbers in the file.
        offset: where a view begins, in elements.
    """

    kind: str
    key: str
    offset: int


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor that was not made yet; the numbers are as the file states them, unverified.

    Attributes:
        numbers: what it views.
        offset: of its first element, in elements.
        shape: as in ``Tensor.shape``.
        stride: as in ``Tensor.stride()``.
        dtype: such as "torch.float8_e5m2", where the storage's class does not state it.
    """

    numbers: StoredNumbers
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: str | None = None


def stand_in(made: Any, arguments: Any) -> Any:
    """Return what stands for the result of a call.

    Args:
        made: what the pickle would call.
        arguments: what it would be called with.

    Returns:
        A mapping, an array, a tensor's description, a namespace or bytes, or else an ``Inert``.
    """
    name = made.name if isinstance(made, Inert) else type(made).__name__
    given = arguments if isinstance(arguments, tuple) else ()
    if name in MAPPINGS:
        return {}
    if name in NAMESPACES:
        return InertNamespace(name)
    if name == "numpy.dtype":
        return InertDtype(*given)
    if name in ARRAYS:
        return InertArray()
    match name, given:
        case "_codecs.encode", (str(text), "latin1"):
            return text.encode("latin-1", "replace")
        case (
            "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state",
            (StoredTensor() as tensor, *_),
        ):
            return tensor
        case "torch._tensor._rebuild_from_type_v2", (Inert() as function, _, inner, *_):
            known = isinstance(inner, tuple) and "_rebuild_from_type" not in function.name
            return stand_in(function, inner) if known else Inert(name)
        case (
            "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2",
            (StoredNumbers() as numbers, int(offset), tuple(shape), tuple(stride), *_),
        ):
            return StoredTensor(numbers, offset, shape, stride)
        case (
            "torch._utils._rebuild_tensor_v3",
            (
                StoredNumbers() as numbers,
                int(offset),
                tuple(shape),
                tuple(stride),
                _,
                _,
                Inert(name=dtype),
                *_,
            ),
        ):
            return StoredTensor(numbers, offset, shape, stride, dtype)
    return Inert(name)

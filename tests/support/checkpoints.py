"""Checkpoints as the authors and training frameworks store them.

The authors' have their keys and shapes, and values from ``golden.fill``.
"""

from __future__ import annotations

import argparse
import json
import sys
import types
from collections import OrderedDict, defaultdict
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from support.fill import parameter

KEYS_DIR = Path(__file__).parents[1] / "golden" / "keys"


def official_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Every key of the official checkpoint of ``name`` with its shape."""
    shapes: dict[str, list[int]] = json.loads((KEYS_DIR / f"{name}.json").read_text())
    return {key: tuple(shape) for key, shape in shapes.items()}


def official_state(name: str) -> dict[str, Tensor]:
    """The flat state dict of ``name``'s official checkpoint, with the reference's values."""
    return {
        key: torch.from_numpy(parameter(key, shape)) for key, shape in official_shapes(name).items()
    }


def official_numbers() -> dict[str, Tensor]:
    """Some official keys, each with a number of its own by which it can be recognised."""
    parts = ("blocks1.0.", "head.", "aux_head.")
    return {
        key: torch.tensor([float(number)])
        for number, key in enumerate(official_shapes("overlock_xt"))
        if key.startswith(parts)
    }


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The same entries under names with a prefix."""
    return {prefix + name: tensor for name, tensor in state.items()}


def foreign_class(monkeypatch: pytest.MonkeyPatch, qualified: str, base: type = object) -> Any:
    """A class of a package that is not installed, so that objects of it can be saved."""
    module, _, name = qualified.rpartition(".")
    made = type(name, (base,), {"__module__": module})
    parts = module.split(".")
    for package in (".".join(parts[:count]) for count in range(1, len(parts) + 1)):
        if package not in sys.modules:
            monkeypatch.setitem(sys.modules, package, types.ModuleType(package))
    setattr(sys.modules[module], name, made)
    return made


def omegaconf(monkeypatch: pytest.MonkeyPatch, words: dict[str, Any]) -> Any:
    """OmegaConf's objects as they look in a pickle."""
    dict_config, list_config, node = (
        foreign_class(monkeypatch, f"omegaconf.{name}")
        for name in ("dictconfig.DictConfig", "listconfig.ListConfig", "nodes.AnyNode")
    )
    kinds: dict[Any, Any] = {dict: dict_config, list: list_config}

    def wrap(value: Any, parent: Any) -> Any:
        made = kinds.get(type(value), node)()
        made._metadata, made._parent = SimpleNamespace(key=None), parent
        if isinstance(value, dict):
            made._content = {name: wrap(part, made) for name, part in value.items()}
        elif isinstance(value, list):
            made._content = [wrap(part, made) for part in value]
        else:
            made._val = value
        return made

    return wrap(words, None)


def training_files(
    monkeypatch: pytest.MonkeyPatch, raw: dict[str, Tensor], ema: dict[str, Tensor]
) -> dict[str, Any]:
    """What training frameworks save, by the framework; a key with "EMA" has both weights."""
    words = {"img_size": 384, "crop_pct": 1.0, "mean": [0.5, 0.5, 0.5], "interpolation": "random"}
    history = foreign_class(monkeypatch, "mmengine.logging.history_buffer.HistoryBuffer")()
    history._log_history = np.array([0.5])
    hub = SimpleNamespace(_log_scalars=OrderedDict({"train/loss": history}))
    node = foreign_class(monkeypatch, "yacs.config.CfgNode", dict)
    lightning = {"pytorch-lightning_version": "2.5", "loops": {}, "callbacks": {}}
    counter = {"n_averaged": torch.tensor(3)}
    return {
        "state_dict alone": raw,
        "timm, EMA": {
            "epoch": 3,
            "arch": "demo",
            "state_dict": raw,
            "state_dict_ema": ema,
            "optimizer": {"state": {0: {"exp_avg": raw}}},
            "version": 2,
            "args": argparse.Namespace(**words),
            "metric": np.float64(81.5),
        },
        "DeiT, EMA": {"model": raw, "model_ema": ema, "args": argparse.Namespace(**words)},
        "torchvision's references, EMA": {
            "model": raw,
            "model_ema": prefixed(ema, "module.") | counter,
            "args": argparse.Namespace(model="demo", val_crop_size=384),
            "scaler": {"scale": 65536.0, "_growth_tracker": 0},
        },
        "Composer": {
            "state": {"model": prefixed(raw, "module."), "timestamp": {}},
            "rng": [(0, {})],
        },
        "BasicSR, EMA": {"params": raw, "params_ema": ema},
        "ultralytics, EMA": {"model": raw, "ema": ema, "updates": 7, "date": datetime.now(UTC)},
        "mmengine, EMA": {
            "state_dict": ema | {"data_preprocessor.mean": torch.zeros(3, 1, 1)},
            "ema_state_dict": prefixed(raw, "module.") | {"steps": torch.tensor(7)},
            "message_hub": hub,
            "meta": {"cfg": "model = dict()", "time": datetime.now(UTC), "seed": np.int64(1)},
        },
        "Lightning, EMA by WeightAveraging": {
            **lightning,
            "state_dict": prefixed(ema, "model."),
            "current_model_state": prefixed(raw, "model."),
            "averaging_state": counter,
            "hyper_parameters": words,
        },
        "Lightning, EMA by a callback": {
            **lightning,
            "state_dict": prefixed(raw, "net."),
            "callbacks": {"EMACallback": {"state_dict": prefixed(ema, "net."), "decay": 0.999}},
        },
        "Lightning, EMA beside": {
            **lightning,
            "state_dict": prefixed(raw, "module.model.")
            | prefixed(ema, "ema.module.")
            | prefixed(counter, "ema."),
        },
        "Lightning": {**lightning, "state_dict": prefixed(raw, "model."), "hparams_name": "kwargs"},
        "AveragedModel, EMA": {"net": raw, "smooth": prefixed(ema, "module.") | counter},
        "DistributedDataParallel": prefixed(raw, "module."),
        "torch.compile": {"model": prefixed(raw, "_orig_mod.")},
        "DeepSpeed": {"module": raw, "optimizer": None, "ds_config": defaultdict(list, a=[1])},
        "PyTorch's tutorial": {"model_state_dict": raw, "epoch": np.int32(3), "loss": 0.5},
        "a folder's path": {"net": raw, "output": Path("runs"), "opt": SimpleNamespace(lr=0.1)},
        "Swin": {"model": raw, "config": node(DATA=node(IMG_SIZE=384))},
        "Hydra": {"model": raw, "config": omegaconf(monkeypatch, {"data": words})},
    }

"""The end of a start: a wrong setting ends the service, a lost device only the engine."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch

from model.kernels.gpu.failures import DeviceLostError
from service.engine import loading
from service.engine.batches import DeviceFailedError
from service.engine.device import EngineDevice
from service.engine.loading import ConfigurationError, load
from service.engine.scheduling.scheduler import Scheduler
from service.settings import load_settings
from support.service_fakes import CLASSIFIER

LOST = "an illegal memory access was encountered"


def start() -> None:
    scheduler = cast("Scheduler[Any]", object())
    load(load_settings({}), (), EngineDevice("cuda:1", "cuda:0"), (1, 2), scheduler)


@pytest.mark.parametrize(
    ("error", "ends_with"),
    [
        (ValueError("There is no weights file"), ConfigurationError),
        (DeviceLostError(LOST), DeviceFailedError),
    ],
    ids=["setting", "device"],
)
def test_a_device_that_is_lost_while_models_load_is_no_wrong_setting(
    monkeypatch: pytest.MonkeyPatch, error: Exception, ends_with: type[Exception]
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(loading, "Runner", fail)
    with pytest.raises(ends_with, match=str(error)):
        start()


def test_a_device_that_is_lost_in_the_warm_up_is_a_failed_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Losing:
        models = (CLASSIFIER,)
        device = torch.device("cpu")

        def __init__(self, *_: object) -> None:
            """Load nothing."""

        def warm_up_input_sizes(self, _: object) -> tuple[tuple[int, int], ...]:
            raise DeviceLostError(LOST)

    monkeypatch.setattr(loading, "Runner", Losing)
    with pytest.raises(DeviceFailedError, match=f"The device is lost: {LOST}"):
        start()

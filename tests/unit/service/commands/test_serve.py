from __future__ import annotations

import argparse
import sys

import pytest

from service import cli
from service.commands import serve
from service.processes.child import Child, StartFailedError
from service.processes.supervisor import Ending
from service.settings import Settings


def exit_code(monkeypatch: pytest.MonkeyPatch, *words: str) -> object:
    monkeypatch.setattr(sys, "argv", ["overlock", "serve", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code


@pytest.mark.parametrize(
    ("ending", "code"), [(Ending.STOPPED, 0), (Ending.FAILED, 1), (Ending.REFUSED, 2)]
)
def test_every_ending_has_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, ending: Ending, code: int
) -> None:
    class Supervised:
        def __init__(self, settings: Settings) -> None:
            assert settings.port == 0

        async def run(self) -> Ending:
            return ending

    monkeypatch.setattr(serve, "Supervisor", Supervised)
    assert exit_code(monkeypatch, "--port", "0") == code


def test_a_process_that_cannot_start_is_nothing_done(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(child: Child) -> None:
        raise StartFailedError

    monkeypatch.setattr(Child, "keep_running", refuse)
    assert exit_code(monkeypatch, "--port", "0") == 2


def test_wrong_settings_are_nothing_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(monkeypatch, "--max-batch-size", "0") == 2
    assert capsys.readouterr().err.startswith("overlock: OVERLOCK_MAX_BATCH_SIZE: ")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--model-name", "birds"), "OVERLOCK_MODEL_NAME is the name of the only model, but"),
        (
            ("--model-control", "on", "--host", "0.0.0.0"),
            "OVERLOCK_MODEL_CONTROL=on would let everyone who reaches 0.0.0.0 unload models: set "
            "OVERLOCK_API_KEYS_FILE, or OVERLOCK_HOST to a loopback address",
        ),
    ],
)
def test_settings_that_do_not_fit_together_are_nothing_done(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    sentence: str,
) -> None:
    assert exit_code(monkeypatch, *words) == 2
    assert sentence in capsys.readouterr().err.splitlines()[-1]


def test_every_setting_is_an_option() -> None:
    parser = argparse.ArgumentParser()
    serve.fill_parser(parser)
    arguments = parser.parse_args(["--max-queue-requests", "3"])
    assert vars(arguments).keys() == Settings.model_fields.keys()
    assert arguments.max_queue_requests == "3"

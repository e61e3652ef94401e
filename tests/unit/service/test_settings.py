from __future__ import annotations

from pathlib import Path

import pytest

from service.settings import PREFIX, Settings, SettingsError, load_settings


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(PREFIX + name.upper(), raising=False)


def test_a_variable_sets_its_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERLOCK_MAX_BATCH_SIZE", "4")
    assert load_settings().max_batch_size == 4


def test_an_override_wins_over_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERLOCK_PORT", "9000")
    assert load_settings({"port": "9001"}).port == 9001


def test_a_misspelt_variable_stops_the_start_and_names_the_right_one() -> None:
    with pytest.raises(SettingsError, match=r"OVERLOCK_MAX_BATCHSIZE.*OVERLOCK_MAX_BATCH_SIZE"):
        load_settings(environment={"OVERLOCK_MAX_BATCHSIZE": "4", "PATH": "/bin"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_batch_size", "0"),
        ("port", "http"),
        ("dtype", "float16"),
        ("devices", "gpu"),
        ("devices", "cuda:a"),
        ("devices", "cuda:0,cuda:0"),
        ("classify_model", "resnet50"),
        ("default_timeout_seconds", "-1"),
    ],
)
def test_a_value_out_of_range_is_refused_by_the_variables_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"{PREFIX}{name.upper()}.*{value}"):
        load_settings({name: value})


def test_a_network_of_the_paper_needs_weights() -> None:
    with pytest.raises(SettingsError, match="OVERLOCK_CLASSIFY_WEIGHTS is needed"):
        load_settings({"classify_model": "overlock_t"})


def test_the_demo_brings_its_own_weights() -> None:
    assert load_settings().classify_weights_source() == "demo"


def test_another_process_reads_equal_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(
        {"classify_model": "overlock_t", "classify_weights": "x.pth", "classify_labels": "l.txt"}
    )
    for name, value in settings.as_environment().items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings
    assert settings.classify_labels == Path("l.txt")

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from service.processes.start_checks import GRPC_PACKAGES, check_files, check_packages
from service.settings import Settings, SettingsError, load_settings, specs_of


def check(settings: dict[str, str]) -> None:
    loaded = load_settings(settings)
    check_files(loaded, specs_of(loaded))


def test_the_demo_needs_no_files() -> None:
    check({})


def test_every_file_that_cannot_be_used_is_named_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_text("text")
    settings = {
        "classify_model": "overlock_t",
        "classify_weights": str(tmp_path / "w.pth"),
        "segment_labels": str(tmp_path),
        "api_keys_file": "/nowhere/keys",
    }
    with pytest.raises(SettingsError) as refusal:
        check(settings)
    weights, labels, keys = str(refusal.value).splitlines()
    assert weights.startswith(f"OVERLOCK_CLASSIFY_WEIGHTS: {tmp_path}/w.pth ")
    assert labels.startswith(f"OVERLOCK_SEGMENT_LABELS: The labels file {tmp_path} ")
    assert keys.startswith("OVERLOCK_API_KEYS_FILE: /nowhere/keys ")


def test_the_files_of_a_task_that_is_off_do_not_matter() -> None:
    check({"segment_model": "off", "segment_labels": "/nowhere"})


def test_an_address_is_read_and_not_fetched() -> None:
    check({"classify_weights": "hf://owner/nowhere/m.pth"})
    check({"classify_weights": f"https://nowhere/m.pth#sha256={'0' * 64}"})


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("hf://owner/repo", "hf://owner/repo names no file in a model repository"),
        ("https://u:secret@h/m.pth?secret", "https://h/m.pth needs the file's SHA-256"),
        ("ftp://h/m.pth", "ftp://h/m.pth is no address of weights"),
        ("s3://b/m.pth", "pip install 'overlock-service[cloud]'"),
    ],
)
def test_a_wrong_address_or_a_missing_package_is_named_with_its_setting(
    weights: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.remote.addresses.find_spec", lambda _: None)
    with pytest.raises(SettingsError) as refusal:
        check({"classify_weights": weights})
    assert str(refusal.value).startswith("OVERLOCK_CLASSIFY_WEIGHTS: ")
    assert message in str(refusal.value)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("missing", GRPC_PACKAGES)
def test_without_its_packages_grpc_is_refused_and_without_grpc_they_do_not_matter(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(package: str) -> str:
        if package == missing:
            raise PackageNotFoundError(package)
        return "1.0"

    monkeypatch.setattr("service.processes.start_checks.version", version)
    check_packages(Settings())
    with pytest.raises(SettingsError) as refusal:
        check_packages(Settings(grpc_port=0))
    assert str(refusal.value) == (
        f"OVERLOCK_GRPC_PORT needs the package {missing}, which is not installed: "
        "install the extra grpc: pip install 'overlock-service[grpc]', or "
        "uv tool install 'overlock-service[grpc]'; or unset it"
    )

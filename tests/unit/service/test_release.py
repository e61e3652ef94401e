from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import pytest

from service import release


def test_the_release_is_the_installed_packages() -> None:
    assert release.release() == version("overlock-service")


def test_a_checkout_that_was_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_found(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(release, "version", not_found)
    assert release.release() == release.UNINSTALLED

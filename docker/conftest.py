"""The image that is built, and a container of it, for every test of docker/."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.image_build import ImageStore, build_arguments, missing_tools
from support.image_container import Container


@pytest.fixture(scope="session")
def store() -> Iterator[ImageStore]:
    missing = missing_tools()
    assert not missing, f"Not installed: {', '.join(missing)}; see docker/install-buildah.sh"
    folder = Path(tempfile.mkdtemp(prefix="overlock-image-"))
    store = ImageStore(folder)
    try:
        store.build(build_arguments())
        yield store
    finally:
        store.remove()


@pytest.fixture(scope="session")
def root(store: ImageStore) -> Iterator[Path]:
    with store.mounted() as root:
        yield root


@pytest.fixture(scope="session")
def container(
    store: ImageStore, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Container]:
    """Run the image's own command."""
    folder = tmp_path_factory.mktemp("overlock-container")
    with Container(root, store.configuration, folder) as container:
        container.wait_for(" is ready after ")
        yield container

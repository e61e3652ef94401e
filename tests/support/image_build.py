"""Build of the container image without a Docker engine, by debootstrap and buildah.

Needs root, and Debian's packages buildah, debootstrap and runc; see ``docker/install-buildah.sh``.
"""

from __future__ import annotations

import ast
import gzip
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
BASE = "localhost/overlock-base"
IMAGE = "localhost/overlock-service"
VARIANT = os.environ.get("TORCH_VARIANT", "cpu")
BASE_PACKAGES = "python3,python3-venv,ca-certificates"
BASE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

STORAGE_DRIVER = os.environ.get("STORAGE_DRIVER", "overlay")
"""buildah's. vfs works on every file system, and copies an image for each of its layers."""


@cache
def build_arguments() -> dict[str, str]:
    """Return the Dockerfile's arguments for the tested image of the commit that is checked out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {
        "TORCH_VARIANT": VARIANT,
        "VERSION": project["version"],
        "REVISION": head.stdout.strip(),
        "SOURCE": "https://git.example.com/overlock-service",
    }


def missing_tools() -> list[str]:
    """Return the programs that building and running an image would need."""
    return [tool for tool in ("buildah", "debootstrap", "runc") if shutil.which(tool) is None]


@dataclass(frozen=True)
class Layer:
    """A layer of an image.

    Attributes:
        packed_bytes: what a registry keeps.
        bytes: what it adds to the image's files.
        created_by: the instruction that made it.
    """

    packed_bytes: int
    bytes: int
    created_by: str


class ImageStore:
    """A store of images of its own, below a folder.

    Args:
        folder: where it lies; nothing is written elsewhere.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._has_base = False

    def build(
        self, build_arguments: Mapping[str, str], image: str = IMAGE, context: Path = ROOT
    ) -> None:
        """Build an image on a base of this machine's Debian mirror.

        Args:
            build_arguments: the Dockerfile's.
            image: its name.
            context: the folder of the Dockerfile and of what it copies.
        """
        if not self._has_base:
            self._make_base()
            self._has_base = True
        arguments = {"BASE_IMAGE": BASE, **build_arguments}
        if {"find-links", "extra-index-url"} & self._pip_settings.keys():
            arguments["TORCH_INDEX"] = ""  # this machine has places of its own
        words = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        for path, inside in self._pip_mounts().items():
            words += ["--volume", f"{path}:{inside}:ro"]
        self._buildah(
            "bud",
            "--isolation=chroot",
            "--layers",
            "--format=docker",
            *words,
            f"--tag={image}",
            str(context),
        )

    @cached_property
    def configuration(self) -> dict[str, Any]:
        """The image's configuration, as Docker would read it."""
        inspected = json.loads(self._output("inspect", "--type=image", IMAGE))
        configuration: dict[str, Any] = inspected["Docker"]["config"]
        return configuration

    def layer_digests(self, image: str = IMAGE) -> list[str]:
        """Return the digests of an image's layers, from the base up."""
        inspected = json.loads(self._output("inspect", "--type=image", image))
        digests: list[str] = inspected["OCIv1"]["rootfs"]["diff_ids"]
        return digests

    def layers(self) -> list[Layer]:
        """Push the image to a folder and return what each of its layers weighs there."""
        pushed = self._folder / "pushed"
        blobs = pushed / "blobs"
        self._buildah("push", "--quiet", IMAGE, f"oci:{pushed}:image")

        def blob(digest: str) -> Any:
            return json.loads((blobs / _file_name(digest)).read_text())

        index = json.loads((pushed / "index.json").read_text())
        manifest = blob(index["manifests"][0]["digest"])
        history = blob(manifest["config"]["digest"])["history"]
        made = [entry["created_by"] for entry in history if not entry.get("empty_layer")]
        return [
            Layer(layer["size"], _unpacked_bytes(blobs / _file_name(layer["digest"])), created_by)
            for layer, created_by in zip(manifest["layers"], made, strict=True)
        ]

    @contextmanager
    def mounted(self, image: str = IMAGE) -> Iterator[Path]:
        """Show an image's files."""
        container = self._output("from", image)
        try:
            yield Path(self._output("mount", container))
        finally:
            self._buildah("rm", container)

    def remove(self) -> None:
        """Remove every image, and the store."""
        self._buildah("rmi", "--all", "--force")
        shutil.rmtree(self._folder)

    def _make_base(self) -> None:
        base = self._folder / "base"
        subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={BASE_PACKAGES}", "bookworm", base],
            check=True,
            stdout=sys.stderr,
        )
        container = self._output("from", "scratch")
        root = self._output("mount", container)
        subprocess.run(["cp", "--archive", f"{base}/.", root], check=True)
        self._buildah("config", f"--env=PATH={BASE_PATH}", container)
        self._buildah("commit", "--quiet", "--rm", container, BASE)
        shutil.rmtree(base)

    @cached_property
    def _pip_settings(self) -> dict[str, str]:
        listed = subprocess.run(
            [sys.executable, "-m", "pip", "config", "list"],
            capture_output=True,
            text=True,
            check=True,
        )
        lines = (line.partition("=") for line in listed.stdout.splitlines())
        settings = {name.rpartition(".")[2]: ast.literal_eval(value) for name, _, value in lines}
        if VARIANT == "cuda":
            settings.pop("find-links", None)  # a build of torch for CPUs may lie there
        return settings

    def _pip_mounts(self) -> dict[str, str]:
        """Let the build's pip find what this machine's finds.

        Its settings become one file, and what they name on the disk goes along.
        """
        configuration = self._folder / "pip.conf"
        lines = ["[global]", *(f"{name} = {value}" for name, value in self._pip_settings.items())]
        configuration.write_text("\n".join(lines) + "\n")
        words = " ".join(self._pip_settings.values()).replace("file://", "").split()
        named = [Path(word) for word in words if word.startswith("/") and Path(word).exists()]
        # The pages of an index lead to files that lie beside them.
        named = [path.parent if path.name == "simple" else path for path in named]
        return {str(configuration): "/etc/pip.conf"} | {str(path): str(path) for path in named}

    def _buildah(self, *words: str) -> None:
        subprocess.run(self._command(words), check=True, cwd=ROOT, stdout=sys.stderr)

    def _output(self, *words: str) -> str:
        command = self._command(words)
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    def _command(self, words: tuple[str, ...]) -> list[str]:
        store = ("--root", f"{self._folder}/images", "--runroot", f"{self._folder}/run")
        return ["buildah", *store, "--storage-driver", STORAGE_DRIVER, *words]


def _file_name(digest: str) -> str:
    return digest.replace(":", "/")


def _unpacked_bytes(packed: Path) -> int:
    with gzip.open(packed) as file:
        return sum(map(len, iter(lambda: file.read(2**20), b"")))

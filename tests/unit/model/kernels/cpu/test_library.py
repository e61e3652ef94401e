"""The kernels are compiled once, cached safely, and their absence has a reason."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import pytest

from model.kernels.cpu import library as native
from model.kernels.cpu.instruction_sets import machine_instruction_sets, runnable_instruction_sets
from model.kernels.cpu.library import NativeKernelsError, cpu_kernels_unsupported_reason
from support.native_kernels import forget

pytestmark = pytest.mark.skipif(
    cpu_kernels_unsupported_reason() is not None, reason=str(cpu_kernels_unsupported_reason())
)


@pytest.fixture(autouse=True)
def nothing_loaded() -> Iterator[None]:
    forget()
    yield
    forget()


def test_kernels_are_compiled_once_and_kept(tmp_path: Path) -> None:
    native.native_library(tmp_path)
    (kept,) = tmp_path.iterdir()
    compiled_at = kept.stat().st_mtime_ns
    forget()
    native.native_library(tmp_path)
    assert [kept] == list(tmp_path.iterdir())
    assert kept.stat().st_mtime_ns == compiled_at


@pytest.mark.slow
def test_other_sources_are_compiled_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources, kept = tmp_path / "sources", tmp_path / "kept"
    sources.mkdir()
    for source in native.SOURCES.iterdir():
        (sources / source.name).write_text(source.read_text())
    native.native_library(kept)
    (sources / "lanes.h").write_text((sources / "lanes.h").read_text() + "/* changed */\n")
    monkeypatch.setattr(native, "SOURCES", sources)
    forget()
    native.native_library(kept)
    assert len(list(kept.iterdir())) == 2


@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_a_folder_that_others_write_to_is_not_trusted(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    assert native.native_library(tmp_path) is not None
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert native.native_library(tmp_path / "file" / "folder") is not None


def test_kernels_kept_where_nothing_can_be_written_any_more_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept"
    native.native_library(kept)
    forget()
    access = os.access  # mode bits would not do: root may write to any folder
    monkeypatch.setattr(os, "access", lambda path, mode: path != kept and access(path, mode))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    assert cpu_kernels_unsupported_reason(kept) is None


def test_nowhere_to_compile_to_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    reason = cpu_kernels_unsupported_reason(tmp_path / "file" / "folder")
    assert reason is not None
    assert reason.startswith("the compiled kernels cannot be written")


@pytest.fixture(scope="module")
def prebuilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the libraries that a container image ships."""
    if not machine_instruction_sets():
        pytest.skip(f"No library is prebuilt for {platform.machine()}")
    folder = tmp_path_factory.mktemp("image") / "prebuilt"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "PREBUILT", folder)
        builds = native.prebuild()
    assert [build.parent for build in builds] == [folder] * len(machine_instruction_sets())
    return folder


@pytest.fixture
def no_compiler(prebuilt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a container: prebuilt libraries, no compiler."""
    monkeypatch.setattr(native, "PREBUILT", prebuilt)
    monkeypatch.setenv("PATH", "/nowhere")


@pytest.mark.usefixtures("no_compiler")
def test_the_best_prebuilt_library_is_loaded_and_nothing_kept(tmp_path: Path) -> None:
    if not runnable_instruction_sets():
        pytest.skip("This processor is older than every build")
    library = native.native_library(tmp_path / "kept")
    assert Path(library._name).name.startswith(f"overlock-{runnable_instruction_sets()[0].name}-")
    assert not (tmp_path / "kept").exists()


@pytest.mark.usefixtures("no_compiler")
def test_a_processor_that_no_build_is_for_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "runnable_instruction_sets", list)
    assert cpu_kernels_unsupported_reason() == (
        "there is no C compiler (looked for cc, gcc, clang) "
        "and no prebuilt library for this processor"
    )


@pytest.mark.usefixtures("no_compiler")
def test_builds_of_other_sources_are_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lanes.h").write_text("/* other */")
    monkeypatch.setattr(native, "SOURCES", tmp_path)
    assert "no prebuilt library" in str(cpu_kernels_unsupported_reason())


def test_no_compiler_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert cpu_kernels_unsupported_reason() == "there is no C compiler (looked for cc, gcc, clang)"


def test_what_the_first_call_found_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    reason = cpu_kernels_unsupported_reason()
    monkeypatch.undo()
    assert reason is not None
    assert cpu_kernels_unsupported_reason() == reason
    with pytest.raises(NativeKernelsError, match="there is no C compiler"):
        native.native_library()


def test_threads_that_come_at_once_compile_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = Mock(wraps=native.compile_library)
    monkeypatch.setattr(native, "compile_library", compiled)
    with ThreadPoolExecutor(4) as threads:
        libraries = list(threads.map(lambda _: native.native_library(tmp_path), range(4)))
    compiled.assert_called_once()
    assert len({id(library) for library in libraries}) == 1


@pytest.mark.slow
def test_processes_that_start_at_once_compile_once(tmp_path: Path) -> None:
    real, commands, kept = (
        shutil.which("cc") or shutil.which("gcc"),
        tmp_path / "log",
        tmp_path / "k",
    )
    compiler = tmp_path / "cc"
    compiler.write_text(f'#!/bin/sh\necho "$@" >> {commands}\nexec {real} "$@"\n')
    compiler.chmod(0o755)
    load = f"from pathlib import Path; native_library(Path({str(kept)!r}))"
    code = f"from model.kernels.cpu.library import native_library; {load}"
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    root = Path(native.__file__).parents[3]
    workers = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, cwd=root) for _ in range(3)
    ]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0]
    assert commands.read_text().count("-shared") == 1


def test_a_compiler_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho cc: out of order >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(NativeKernelsError, match="cc failed: cc: out of order"):
        native.native_library(tmp_path / "kept")

"""Whatever Triton's launcher cannot be compiled without is named if it is missing."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

import pytest

from model.kernels.gpu.toolchain import missing_tool

COMPILERS = [path for name in ("gcc", "clang") if (path := shutil.which(name)) is not None]

pytestmark = pytest.mark.skipif(
    not COMPILERS or missing_tool() is not None, reason=f"not complete here: {missing_tool()}"
)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Find programs in an empty folder alone."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CC", raising=False)
    return folder


def test_without_a_c_compiler(programs: Path) -> None:
    # Triton takes no other.
    (programs / "cc").symlink_to(COMPILERS[0])
    reason = "there is no C compiler, which Triton needs (gcc, clang, or the one that CC names)"
    assert missing_tool() == reason


def test_with_a_compiler_of_another_name(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    other = programs / "other"
    other.symlink_to(COMPILERS[0])
    monkeypatch.setenv("CC", str(other))
    assert missing_tool() is None


def test_without_the_compiler_that_cc_names(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "nowhere")
    assert missing_tool() == (
        "the C compiler, which Triton needs, cannot be run: "
        "[Errno 2] No such file or directory: 'nowhere'"
    )


def test_without_pythons_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sysconfig.get_paths", lambda _: {"include": str(tmp_path)})
    assert missing_tool() == (
        f"there are no C headers of Python (Python.h in {tmp_path}), which Triton needs"
    )


def test_without_the_c_librarys_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As gcc without libc6-dev sees Python's.
    (tmp_path / "Python.h").write_text("#include <of_the_c_library.h>\n")
    monkeypatch.setattr("sysconfig.get_paths", lambda _: {"include": str(tmp_path)})
    reason = missing_tool()
    assert reason is not None
    assert "compiles nothing for Python, as Triton needs: " in reason
    assert "of_the_c_library.h" in reason


def test_without_a_linker(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As gcc without binutils, which cannot assemble either.
    (programs / "gcc").write_text(
        "#!/bin/sh\necho \"gcc: fatal error: cannot execute 'as'\" >&2\nexit 1\n"
    )
    (programs / "gcc").chmod(0o755)
    assert missing_tool() == (
        f"{programs / 'gcc'} compiles nothing for Python, as Triton needs: "
        "gcc: fatal error: cannot execute 'as'"
    )


def test_the_headers_are_those_of_this_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    # Debian's own scheme names a folder that has none.
    monkeypatch.setattr("sysconfig.get_default_scheme", lambda: "posix_local")
    asked: list[str] = []
    real = sysconfig.get_paths

    def noted(scheme: str) -> dict[str, str]:
        asked.append(scheme)
        return real(scheme)

    monkeypatch.setattr("sysconfig.get_paths", noted)
    assert missing_tool() is None
    assert asked == ["posix_prefix"]

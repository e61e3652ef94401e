"""Compiled code survives the way from one machine to another."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.on_gpu import caches


def test_what_was_packed_is_unpacked_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caches, "PART_BYTES", 64)  # many parts
    folder, results, other = tmp_path / "caches", tmp_path / "results", tmp_path / "other"
    (folder / "triton" / "key").mkdir(parents=True)
    (folder / "triton" / "key" / "kernel.cubin").write_bytes(bytes(range(256)))
    results.mkdir()
    (results / "caches.tar.gz.99").write_bytes(b"of an earlier run")
    row = caches.pack(folder, results)
    assert (row["files"], row["parts"]) == (1, len(list(results.iterdir())))
    assert len(list(results.iterdir())) > 1
    assert caches.unpack(results, other).startswith("full, unpacked from")
    assert (other / "triton" / "key" / "kernel.cubin").read_bytes() == bytes(range(256))


def test_caches_that_are_there_stay(tmp_path: Path) -> None:
    assert caches.unpack(tmp_path / "results", tmp_path / "caches") == "empty"
    assert caches.unpack(tmp_path / "results", tmp_path / "caches") == "full, of an earlier run"


def test_both_compilers_keep_their_code_in_the_folder(tmp_path: Path) -> None:
    variables = caches.environment(tmp_path)
    assert set(variables) == {"TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"}
    assert all(Path(value).parent == tmp_path for value in variables.values())

from __future__ import annotations

from dataclasses import replace

from benchmarks.on_gpu.growth import NOISE_BYTES, Holding, growth_rows

BEFORE = Holding(
    compilations=16,
    resident_bytes=2**30,
    allocated_bytes=2**28,
    reserved_bytes=2**29,
    used_bytes=2**31,
)


def verdicts(before: Holding, after: Holding) -> list[object]:
    return [row["verdict"] for row in growth_rows(before, after)]


def test_what_stayed_or_shrank_is_right() -> None:
    after = replace(BEFORE, resident_bytes=2**29, allocated_bytes=2**27)
    assert verdicts(BEFORE, after) == ["ok"] * 5


def test_a_compilation_and_a_byte_that_pytorch_took_are_wrong() -> None:
    after = replace(BEFORE, compilations=17, reserved_bytes=2**29 + 1)
    assert verdicts(BEFORE, after) == ["WRONG", "ok", "WRONG", "ok", "ok"]


def test_other_allocators_may_keep_some_megabytes() -> None:
    def grown(by: int) -> Holding:
        return replace(BEFORE, resident_bytes=2**30 + by, used_bytes=2**31 + by)

    assert verdicts(BEFORE, grown(NOISE_BYTES)) == ["ok"] * 5
    assert verdicts(BEFORE, grown(NOISE_BYTES + 1)) == ["ok", "ok", "ok", "WRONG", "WRONG"]


def test_a_cpu_has_no_memory_of_a_device_to_tell_of() -> None:
    rows = list(growth_rows(Holding(0, 5), Holding(0, 9)))
    assert [row["what"] for row in rows] == ["compilations", "bytes resident on the host"]
    assert [row["grown by"] for row in rows] == [0, 4]

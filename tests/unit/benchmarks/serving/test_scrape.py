from __future__ import annotations

from benchmarks.serving.scrape import sum_of

EXPOSITION = """\
# HELP overlock_batch_size Requests in a batch, padding left out.
overlock_batch_size_sum{task="classify"} 30.0
overlock_batch_size_sum{task="segment"} 12.0
overlock_batch_size_count{task="classify"} 5.0
overlock_recompiles_total 2.0
"""


def test_samples_are_summed_over_all_labels_and_without_any() -> None:
    assert sum_of("overlock_batch_size_sum", EXPOSITION) == 42.0
    assert sum_of("overlock_recompiles_total", EXPOSITION) == 2.0
    assert sum_of("overlock_recompiles", EXPOSITION) == 0.0

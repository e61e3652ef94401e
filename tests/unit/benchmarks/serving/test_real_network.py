from __future__ import annotations

import pytest

from benchmarks.serving.real_network import steady_per_second
from service.commands.bench.generator import Sample


def test_batches_are_counted_from_completion_to_completion() -> None:
    # Sixteen answers every two seconds: 8 a second, wherever the window's edges fall.
    samples = [Sample(0.0, 0.0, 2.0 * batch, 200) for batch in range(1, 10) for _ in range(16)]
    for edge in (3.0, 3.9, 4.1):
        assert steady_per_second(samples, edge, edge + 10.5) == pytest.approx(8.0)


def test_too_few_answers_are_no_rate() -> None:
    with pytest.raises(ValueError, match="1 answers during the warm-up and 0 after"):
        steady_per_second([Sample(0.0, 0.0, 1.0, 200)], 3.0, 20.0)

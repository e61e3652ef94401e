from __future__ import annotations

import pytest

from service.api.queries import DetectQuery, SegmentQuery
from service.commands.batch.identity import identity_of
from service.commands.batch.plan import Shard
from service.commands.predict.outcome import PredictRequest
from service.settings import load_settings


@pytest.mark.parametrize("query_type", [SegmentQuery, DetectQuery])
@pytest.mark.parametrize(
    ("given", "recorded"),
    [
        ({}, (None, None)),
        ({"tile": 512}, (512, 0.2)),
        ({"tile": 512, "overlap": 0.0}, (512, 0.0)),
    ],
)
def test_tiles_are_recorded_with_the_overlap_that_they_have(
    query_type: type[SegmentQuery | DetectQuery],
    given: dict[str, float],
    recorded: tuple[int | None, float | None],
) -> None:
    identity = identity_of(
        PredictRequest(query_type.model_validate(given), saves=False),
        load_settings({}),
        sources=["photos"],
        listing_sha256="",
        stated_sha256="",
        part_size=1,
        shard=Shard(),
    )
    assert (identity["options"]["tile"], identity["options"]["overlap"]) == recorded

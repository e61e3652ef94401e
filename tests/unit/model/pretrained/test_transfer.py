"""A file arrives whole, however the server misbehaves, or the error says why not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from model.pretrained import transfer
from model.pretrained.partial_file import PartialDownload
from model.pretrained.transfer import TransferError
from support.release_server import (
    ReleaseServer,
    answer_with,
    drop_after,
    etag_of,
    redirect,
    without_length,
)
from support.transfers import CONTENTS, FILE, Fetch

OTHER_CONTENTS = CONTENTS[::-1]


@pytest.fixture
def page() -> Iterator[ReleaseServer]:
    with ReleaseServer({FILE: CONTENTS}) as page:
        yield page


@pytest.fixture
def part(tmp_path: Path) -> PartialDownload:
    return PartialDownload(tmp_path / f"{FILE}.part")


@pytest.fixture
def fetch(page: ReleaseServer, part: PartialDownload) -> Fetch:
    return Fetch(page, part)


def test_a_file_arrives_whole_and_every_step_is_told(fetch: Fetch) -> None:
    assert fetch() == CONTENTS
    assert fetch.reports[0] == (0, len(CONTENTS))
    assert fetch.reports[-1] == (len(CONTENTS), len(CONTENTS))
    assert [done for done, _ in fetch.reports] == sorted(done for done, _ in fetch.reports)
    assert fetch.pauses == []


def test_after_a_dropped_connection_only_the_rest_is_asked_for(
    page: ReleaseServer, fetch: Fetch
) -> None:
    page.script = [drop_after(100_000), drop_after(50_000)]
    assert fetch() == CONTENTS
    assert [asked.range for asked in page.asked] == [None, "bytes=100000-", "bytes=150000-"]
    assert page.asked[1].if_range == etag_of(CONTENTS)
    assert fetch.reports[-1][0] == len(CONTENTS)


def test_what_an_earlier_process_left_is_used(
    page: ReleaseServer, part: PartialDownload, fetch: Fetch
) -> None:
    part.begin(etag_of(CONTENTS), len(CONTENTS))
    part.path.write_bytes(CONTENTS[:200_000])
    assert fetch() == CONTENTS
    assert [asked.range for asked in page.asked] == ["bytes=200000-"]
    assert fetch.reports[0] == (200_000, len(CONTENTS))


def test_a_whole_file_is_not_asked_for_again(
    page: ReleaseServer, part: PartialDownload, fetch: Fetch
) -> None:
    part.begin(etag_of(CONTENTS), len(CONTENTS))
    part.path.write_bytes(CONTENTS)
    assert fetch() == CONTENTS
    assert page.asked == []


def test_a_server_without_ranges_sends_it_all_again(page: ReleaseServer, fetch: Fetch) -> None:
    page.ranges = False
    page.script = [drop_after(100_000)]
    assert fetch() == CONTENTS
    assert (100_000, len(CONTENTS)) in fetch.reports


def test_a_file_that_changed_meanwhile_is_not_mixed_with_what_was_there(
    page: ReleaseServer, fetch: Fetch
) -> None:
    def drop_and_change(handler: Any, contents: bytes) -> None:
        drop_after(100_000)(handler, contents)
        page.files[FILE] = OTHER_CONTENTS

    page.script = [drop_and_change]
    assert fetch() == OTHER_CONTENTS
    assert page.asked[1].range == "bytes=100000-"


def test_a_file_without_a_version_is_begun_again(page: ReleaseServer, fetch: Fetch) -> None:
    page.etags = False
    page.script = [drop_after(100_000)]
    assert fetch() == CONTENTS
    assert [asked.range for asked in page.asked] == [None, None]


@pytest.mark.parametrize(
    "content_range", ["bytes 5-9/10", "bytes 100000-307199/400000", "", "bytes x"]
)
def test_another_part_than_asked_for_is_not_appended(
    page: ReleaseServer, fetch: Fetch, content_range: str
) -> None:
    wrong = answer_with(206, b"wrong", {"Content-Range": content_range})
    page.script = [drop_after(100_000), wrong]
    assert fetch() == CONTENTS
    assert [asked.range for asked in page.asked] == [None, "bytes=100000-", None]


def test_a_part_of_another_version_than_asked_for_is_not_appended(
    page: ReleaseServer, fetch: Fetch
) -> None:
    rest = {"Content-Range": f"bytes 100000-{len(CONTENTS) - 1}/{len(CONTENTS)}", "ETag": '"new"'}
    page.script = [drop_after(100_000), answer_with(206, CONTENTS[100_000:], rest)]
    assert fetch() == CONTENTS
    assert len(page.asked) == 3


def test_a_part_that_the_server_does_not_know_is_begun_again(
    page: ReleaseServer, fetch: Fetch
) -> None:
    page.script = [drop_after(100_000), answer_with(416)]
    assert fetch() == CONTENTS
    assert page.asked[2].range is None


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(page: ReleaseServer, fetch: Fetch, status: int) -> None:
    page.script = [answer_with(status)]
    assert fetch() == CONTENTS
    assert len(fetch.pauses) == 1


def test_a_server_gets_the_pause_that_it_asks_for_but_no_hour(
    page: ReleaseServer, fetch: Fetch
) -> None:
    page.script = [answer_with(503, headers={"Retry-After": after}) for after in ("7", "3600")]
    assert fetch() == CONTENTS
    assert fetch.pauses == [7.0, transfer.LONGEST_WAIT_SECONDS]


def test_pauses_double_less_what_chance_takes(page: ReleaseServer, fetch: Fetch) -> None:
    page.script = [answer_with(503)] * 5
    with pytest.raises(TransferError, match=r"503 Service Unavailable \(tried 5 times\)"):
        fetch()
    assert len(page.asked) == 5
    shares = [pause / longest for pause, longest in zip(fetch.pauses, (1, 2, 4, 8), strict=True)]
    assert all(0.5 <= share <= 1.0 for share in shares)
    assert len(set(shares)) > 1


def test_a_bad_line_that_brings_something_each_time_is_not_given_up(
    page: ReleaseServer, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "PROGRESS_BYTES", 20_000)
    page.script = [drop_after(25_000)] * 10
    assert fetch() == CONTENTS
    assert max(fetch.pauses) <= 1.0


def test_a_bad_line_that_brings_next_to_nothing_is_given_up(
    page: ReleaseServer, part: PartialDownload, fetch: Fetch
) -> None:
    page.script = [drop_after(10)] * 10
    with pytest.raises(TransferError, match="tried 5 times"):
        fetch()
    assert part.path.read_bytes() == CONTENTS[:50]


@pytest.mark.parametrize(("status", "words"), [(404, "404 Not Found"), (403, "403 Forbidden")])
def test_a_refusal_is_final(page: ReleaseServer, fetch: Fetch, status: int, words: str) -> None:
    page.script = [answer_with(status)]
    with pytest.raises(TransferError, match=words):
        fetch()
    assert len(page.asked) == 1


def test_a_web_page_is_no_file_and_harms_no_part(
    page: ReleaseServer, part: PartialDownload, fetch: Fetch
) -> None:
    login = answer_with(200, b"<html>", {"Content-Type": "text/html; charset=utf-8"})
    page.script = [drop_after(100_000), login]
    with pytest.raises(TransferError, match=r"127\.0\.0\.1 answers with a web page"):
        fetch()
    assert part.path.read_bytes() == CONTENTS[:100_000]
    assert fetch() == CONTENTS
    assert page.asked[-1].range == "bytes=100000-"


def test_a_compressed_answer_is_refused(page: ReleaseServer, fetch: Fetch) -> None:
    page.script = [answer_with(200, b"\x1f\x8b", {"Content-Encoding": "gzip"})]
    with pytest.raises(TransferError, match="compressed"):
        fetch()


def test_a_file_of_unknown_length_is_taken(page: ReleaseServer, fetch: Fetch) -> None:
    page.script = [without_length]
    assert fetch() == CONTENTS
    assert fetch.reports[-1] == (len(CONTENTS), None)


def test_redirects_are_followed_with_the_range_of_the_rest(
    page: ReleaseServer, fetch: Fetch
) -> None:
    with ReleaseServer({"signed": CONTENTS}) as elsewhere:
        signed = redirect(f"{elsewhere.url}/signed")
        page.script = [signed, signed]
        elsewhere.script = [drop_after(100_000)]
        assert fetch() == CONTENTS
        assert [asked.range for asked in elsewhere.asked] == [None, "bytes=100000-"]


def test_redirects_without_end_are_not_followed(page: ReleaseServer, fetch: Fetch) -> None:
    page.script = [redirect(f"{page.url}/{FILE}")] * 10
    with pytest.raises(TransferError, match="redirects"):
        fetch()
    assert len(page.asked) == transfer.MAX_REDIRECTS + 1


@pytest.mark.parametrize("elsewhere", ["http://example.org/x", "ftp://example.org/x"])
def test_nothing_but_https_is_spoken_to_others(
    page: ReleaseServer, fetch: Fetch, elsewhere: str
) -> None:
    with pytest.raises(TransferError, match=r"leads to (http|ftp)://example\.org, which is no"):
        fetch(elsewhere)
    page.script = [redirect(elsewhere)]
    with pytest.raises(TransferError, match=r"leads to (http|ftp)://example\.org, which is no"):
        fetch()
    assert fetch.pauses == []


def test_a_server_that_is_not_there_is_named_by_its_cause(
    page: ReleaseServer, fetch: Fetch
) -> None:
    page.__exit__()
    with pytest.raises(TransferError, match=r"^127\.0\.0\.1: Connection refused \(tried 5 times\)"):
        fetch()
    page.__enter__()

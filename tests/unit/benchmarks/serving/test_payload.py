from __future__ import annotations

from io import BytesIO

from PIL import Image

from benchmarks.serving.payload import VARIANTS, draw_payloads
from benchmarks.serving.peer_work import answer, decode
from benchmarks.serving.simulated_device import image_scores


def test_payloads_are_jpegs_of_the_promised_size_with_different_answers() -> None:
    payloads = draw_payloads()
    assert len({payload.class_id for payload in payloads}) == VARIANTS
    for payload in payloads:
        assert 85_000 <= len(payload.body) <= 92_000  # "about 88 KB", as a photograph of that size
        with Image.open(BytesIO(payload.body)) as image:
            assert (image.format, image.size) == ("JPEG", (640, 480))


def test_a_payload_knows_the_best_class_of_its_own_image() -> None:
    payload = draw_payloads()[0]
    predictions = answer(image_scores(decode(payload.body)))["predictions"]
    assert predictions[0]["class_id"] == payload.class_id
    assert [each["score"] for each in predictions] == sorted(
        (each["score"] for each in predictions), reverse=True
    )


def test_payloads_are_the_same_every_time() -> None:
    assert draw_payloads(313, 235) == draw_payloads(313, 235)

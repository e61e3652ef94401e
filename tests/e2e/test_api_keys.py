from __future__ import annotations

import hashlib
from pathlib import Path

from support.running_service import CLIENT, RunningService

KEY, IN_THE_BODY = "k-27182818284590", b"b1b2c3d4e5f6"


def test_a_key_opens_the_service_and_the_log_holds_neither_it_nor_images(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"gateway {hashlib.sha256(KEY.encode()).hexdigest()}\n")
    with RunningService(api_keys_file=str(keys), log_format="json", segment_model="off") as service:
        statuses = []
        for key in (KEY, KEY + "x"):
            headers = {"Authorization": f"Bearer {key}", "Content-Type": "image/png"}
            answer = CLIENT.post(
                f"{service.url}/v1/classify",
                content=b"\x89PNG\r\n\x1a\n" + IN_THE_BODY,
                headers=headers,
            )
            statuses.append(answer.status_code)
            assert KEY not in answer.text
    assert statuses == [422, 401]
    assert '"key": "gateway"' in service.log
    for secret in (KEY, "Bearer", IN_THE_BODY.decode()):
        assert secret not in service.log

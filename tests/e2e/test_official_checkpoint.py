"""An official checkpoint of the paper's network, from its file to the answer of the service.

The weights are the reference's hashed ones, in the authors' format; see ``golden.fill``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from model.config import CLASSIFIERS
from model.images.preprocess import classification_input
from model.labels.tables import imagenet_labels
from model.zoo import create_model
from support.checkpoints import official_state
from support.fill import image, model_input
from support.running_service import CLIENT, RunningService
from support.scene_files import png

NAME = "overlock_xt"
TOLERANCE = 2e-3  # of the largest score, the issue's; float32 alone would give less
PHOTO_RESULTS = np.load(Path(__file__).parents[1] / "golden" / "e2e_cls.npz")
PHOTOS = [key.split("|")[1] for key in PHOTO_RESULTS if key.startswith("xt|")]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("weights") / "overlock_xt_in1k_224.pth"
    torch.save(official_state(NAME), path)
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def service(checkpoint: Path) -> Iterator[RunningService]:
    settings = {"classify_model": NAME, "classify_weights": str(checkpoint)}
    with pytest.MonkeyPatch.context() as patch:
        # On as many threads as there are cores: the tests' services have one.
        patch.delenv("OMP_NUM_THREADS", raising=False)
        started = RunningService(**settings)
    with started as service:
        yield service


def served_scores(service: RunningService, body: bytes, media_type: str) -> np.ndarray[Any, Any]:
    answer = CLIENT.post(
        f"{service.url}/v1/classify?top_k=1000",
        content=body,
        headers={"Content-Type": media_type},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    scores = np.zeros(1000)
    for prediction in answer.json()["predictions"]:
        assert prediction["label"] == imagenet_labels()[prediction["class_id"]]
        scores[prediction["class_id"]] = prediction["score"]
    return scores


def assert_same_scores(got: np.ndarray[Any, Any], logits: np.ndarray[Any, Any]) -> None:
    want = torch.from_numpy(logits).double().softmax(dim=-1).numpy()
    assert np.abs(got - want).max() <= TOLERANCE * want.max()


@pytest.mark.parametrize(("height", "width"), [(224, 224), (375, 500), (640, 300)])
def test_the_service_gives_the_scores_of_the_unfolded_network(
    service: RunningService, checkpoint: Path, height: int, width: int
) -> None:
    pixels = image(f"served-{height}x{width}", height, width)
    network = create_model(NAME, weights=checkpoint, fused=False)
    cropped = classification_input(Image.fromarray(pixels), CLASSIFIERS[NAME].geometry)
    logits = network(torch.from_numpy(model_input([cropped])))[0].detach().numpy()
    assert_same_scores(served_scores(service, png(pixels), "image/png"), logits)


@pytest.mark.parametrize("photo", PHOTOS)
def test_a_photograph_gets_the_scores_of_the_authors_network(
    service: RunningService, photos_dir: Path, photo: str
) -> None:
    body = (photos_dir / photo).read_bytes()
    scores = served_scores(service, body, "image/jpeg")
    assert_same_scores(scores, PHOTO_RESULTS[f"xt|{photo}"])


def test_models_names_the_file_and_its_digest(service: RunningService) -> None:
    model = CLIENT.get(f"{service.url}/v1/models").json()["models"][0]
    assert (model["name"], model["demo"], model["note"]) == (NAME, False, None)
    assert model["weights"] == "overlock_xt_in1k_224.pth"
    assert len(model["weights_sha256"]) == 64

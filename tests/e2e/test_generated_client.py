"""A client that openapi-python-client generates from the service's own document."""

from __future__ import annotations

import base64
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from support.api_requests import photo
from support.running_service import RunningService


@pytest.fixture(scope="module")
def generated(demo: RunningService, tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    folder = tmp_path_factory.mktemp("generated")
    program = Path(sys.executable).with_name("openapi-python-client")
    options = ["--url", f"{demo.url}/openapi.json", "--meta", "none", "--output-path"]
    done = subprocess.run(
        [program, "generate", *options, folder / "generated_client"],
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    warned = re.findall(r"^(?:Unsupported|Cannot|Unable|Could).*", said, re.MULTILINE)
    # Three operations, and a line for each type of image: it knows no such bodies.
    assert warned
    assert [line for line in warned if "Unsupported content type image/" not in line] == []
    assert said.count("WARNING") == len(warned)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        importlib.import_module("generated_client.api.inference.classify")
        importlib.import_module("generated_client.api.inference.list_models")
        importlib.import_module("generated_client.models")
        return importlib.import_module("generated_client")


@pytest.fixture
def client(generated: ModuleType, demo: RunningService) -> Iterator[Any]:
    with generated.Client(base_url=demo.url) as client:
        yield client


def test_it_gets_an_answer_and_a_problem_as_objects(generated: ModuleType, client: Any) -> None:
    models, classify = generated.models, generated.api.inference.classify

    image = base64.b64encode(photo()).decode()
    answer = classify.sync(client=client, body=models.ClassifyJsonBody(image=image), top_k=2)
    assert isinstance(answer, models.ClassifyResponse)
    assert len(answer.predictions) == 2

    no_image = models.ClassifyJsonBody(image=base64.b64encode(b"no image").decode())
    problem = classify.sync(client=client, body=no_image)
    assert isinstance(problem, models.ProblemDocument)
    assert (problem.status, problem.type_) == (422, "urn:overlock:problem:invalid-image")

    problem = classify.sync(client=client, body=no_image, top_k=0)
    assert isinstance(problem, models.ProblemDocument)
    assert (problem.status, problem.type_) == (422, "urn:overlock:problem:invalid-parameter")


def test_it_sends_files_as_forms(generated: ModuleType, client: Any) -> None:
    models = generated.models
    file = generated.types.File(payload=BytesIO(photo()), file_name="a.jpg")
    body = models.ClassifyFilesBody(image=file)
    answer = generated.api.inference.classify.sync(client=client, body=body)
    assert isinstance(answer, models.ClassifyResponse)
    models_of_service = generated.api.inference.list_models.sync(client=client)
    assert {model.name for model in models_of_service.models} == {"demo", "demo-segment"}

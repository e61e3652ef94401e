"""Faults of a device, chosen by an image's colour, injected into a service under test.

Python imports a module of this name when it starts. A test puts this folder on the service's
``PYTHONPATH``; the service itself knows nothing of it and is started as a user starts it.
"""

from __future__ import annotations

import sys

print("foreign code prints this in every process", flush=True)  # noqa: T201 - as foreign code does

if "service.web.process" in sys.orig_argv:
    from service.web.http import connections, reading_clients

    # The real values would make tests wait.
    connections.HEAD_SECONDS = 2.0
    reading_clients.UNREAD_SECONDS = 1.0

if "serve" in sys.orig_argv:
    import os
    from pathlib import Path

    from service.processes import generation

    # A file with the memory that other engines are told to find.
    free = Path(os.environ.get("FREE_BYTES_FILE", "/nowhere"))
    if free != Path("/nowhere"):
        setattr(generation, "available_bytes", lambda: int(free.read_text()))  # noqa: B010

if "service.engine.process" in sys.orig_argv:
    import os
    import signal
    from pathlib import Path

    # A file with the number of engines that die before their first line.
    dying = Path(os.environ.get("FAULTY_STARTS_FILE", "/nowhere"))
    if dying.exists() and (left := int(dying.read_text())):
        dying.write_text(str(left - 1))
        os.kill(os.getpid(), signal.SIGKILL)

    import threading
    import time
    from collections.abc import Sequence
    from typing import Any

    import numpy as np
    import torch

    from service.engine import device
    from service.engine.batches import Input
    from service.engine.runner import Runner

    # The real value would make each test of a hang last half a minute.
    device.HANG_FLOOR_SECONDS = 2.0

    run = Runner.run

    def fail(inputs: Sequence[Input]) -> None:
        images = [each.image for each in inputs if isinstance(each.image, np.ndarray)]
        colours = [tuple(image[0, 0].tolist()) for image in images if (image == image[0, 0]).all()]
        if (255, 0, 0) in colours:
            raise ValueError("poison")
        if (255, 128, 0) in colours:
            raise torch.OutOfMemoryError("no memory, whatever the batch")
        if (255, 255, 0) in colours and len(inputs) > 2:
            raise torch.OutOfMemoryError("no memory for more than two")
        if (0, 0, 255) in colours:
            raise torch.AcceleratorError("device-side assert triggered")
        if (255, 0, 255) in colours:
            os.kill(os.getpid(), signal.SIGKILL)
        if (0, 255, 255) in colours:
            threading.Event().wait()
        if (0, 255, 0) in colours:
            time.sleep(1.0)

    def run_or_fail(self: Runner, task: Any, inputs: Sequence[Input], *rest: Any) -> Any:
        fail(inputs)
        return run(self, task, inputs, *rest)

    Runner.run = run_or_fail  # type: ignore[assignment, method-assign]

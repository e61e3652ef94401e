"""Lets the processes under test fetch "published" weights from a server of the test's.

Python imports a module of this name when it starts. A test puts this folder on ``PYTHONPATH``; the
program itself knows nothing of it and is started as a user starts it.
"""

from __future__ import annotations

import os

from model.pretrained import assets

assets.RELEASE_URL = os.environ["TEST_RELEASE_URL"]
assets.ASSETS["demo"] = "nano.pth"

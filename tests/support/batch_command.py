"""``overlock batch`` with a stand-in for the network, and little patience for lost machines.

``python -m support.batch_command NETWORK TASK SOURCE ... --output DIR``
"""

from __future__ import annotations

import functools
import sys
from unittest.mock import patch

from service.commands.batch import run as batch_run
from service.commands.batch.__main__ import main
from service.commands.batch.watch import watched
from support import batch_networks

if __name__ == "__main__":
    network = getattr(batch_networks, sys.argv.pop(1))
    with patch.multiple(
        batch_run,
        run=functools.partial(batch_run.run, make_network=network),
        watched=functools.partial(watched, interval_seconds=0.2, patience_seconds=2),
    ):
        main()

"""The real service with simulated engines.

``overlock serve`` has no option for that, so this starts the supervisor as the command does.
"""

from __future__ import annotations

import asyncio
import sys

from service.commands.serve import EXIT_CODE_OF
from service.logs import configure_logging
from service.processes import generation
from service.processes.supervisor import Ending, Supervisor
from service.settings import load_settings

SIMULATED_ENGINE = "benchmarks.serving.ours.simulated_engine"


def main() -> None:
    """Serve with the environment's settings, until SIGTERM."""
    generation.ENGINE_MODULE = SIMULATED_ENGINE
    settings = load_settings()
    configure_logging(settings.log_format, "service")

    async def run() -> Ending:
        return await Supervisor(settings).run()

    sys.exit(EXIT_CODE_OF[asyncio.run(run())])


if __name__ == "__main__":
    main()

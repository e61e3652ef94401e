"""The real service with simulated engines.

``overlock serve`` has no option for that, so this starts the supervisor as the command does.
"""

from __future__ import annotations

import asyncio
import sys

from prometheus_client import Counter

from service.commands.serve import EXIT_CODE_OF
from service.logs import configure_logging
from service.processes.child import Child
from service.processes.supervisor import Ending, Supervisor
from service.settings import Settings, load_settings

REAL_ENGINE = "service.engine.process"
SIMULATED_ENGINE = "benchmarks.serving.ours.simulated_engine"


class SimulatedSupervisor(Supervisor):
    """A supervisor that starts simulated engines instead of real ones."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.simulated_engines = 0

    def _child(self, name: str, command: tuple[str, ...], restarts: Counter) -> Child:
        if command[0] == REAL_ENGINE:
            self.simulated_engines += 1
            command = (SIMULATED_ENGINE, *command[1:])
        return super()._child(name, command, restarts)

    def _plan(self, listener: object) -> None:
        super()._plan(listener)  # type: ignore[arg-type]
        assert self.simulated_engines, f"the supervisor does not start {REAL_ENGINE} any more"


def main() -> None:
    """Serve with the environment's settings, until SIGTERM."""
    settings = load_settings()
    configure_logging(settings.log_format, "service")

    async def run() -> Ending:
        return await SimulatedSupervisor(settings).run()

    sys.exit(EXIT_CODE_OF[asyncio.run(run())])


if __name__ == "__main__":
    main()

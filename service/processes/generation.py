"""A generation: one set of engines, from a start or a reload to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.processes.changes import Changes
from service.processes.child import START_ATTEMPTS, Child, StartFailedError
from service.processes.compile_cache import compiler_environment
from service.processes.environment import engine_environment, gpu_environment, local_device
from service.processes.memory import available_bytes, own_bytes
from service.processes.selection import RELOAD, Change, Selection
from service.processes.start_checks import check_files
from service.settings import ModelSpec, Settings, SettingsError, models_text, specs_of

ENGINE_MODULE = "service.engine.process"
ENGINE_GRACE_SECONDS = 1.0


@dataclass(frozen=True)
class EngineFiles:
    """The files of an engine, in the runtime folder.

    Attributes:
        socket: that HTTP workers connect to.
        measured: what the engine has measured so far, for its successors.
    """

    socket: Path
    measured: Path

    @property
    def journal(self) -> Path:
        """The in-flight journal; see ``service.engine.device``."""
        return self.socket.with_suffix(".flight")


class Generation:
    """The engines of one start or reload.

    The models are those that the settings state at this moment: the models file is read once, and
    engines that are started again read the copy. Weights with an address are looked up by the first
    engine, which notes the version for all of them.

    Args:
        settings: the service's.
        number: counts the generations that have served, from 1.
        folder: the runtime folder.
        before: the generation that serves meanwhile; None at the start.
        change: that this generation makes; see ``Selection.after``.
        on_change: called whenever an engine has announced that it is ready.
        on_death: called whenever one has died and another is started.

    Attributes:
        selection: which of the configured models it serves.

    Raises:
        SettingsError: if the models file is wrong, or a file that it names, or there is no room
            for its copy.
        ServiceError: if the change cannot be made.
    """

    def __init__(
        self,
        settings: Settings,
        number: int,
        folder: Path,
        before: Generation | None,
        change: Change = RELOAD,
        *,
        on_change: Callable[[], None],
        on_death: Callable[[], None],
    ) -> None:
        self.number = number
        self._before = before
        self._folder = folder
        self._models = folder / f"models-{number}.toml"
        self._pins = folder / f"weights-{number}.json"
        copy = None
        if settings.models_file is not None:
            copy = self._models
            text = models_text(settings.models_file)
            try:
                copy.write_bytes(text)
            except OSError as error:
                raise SettingsError(
                    f"The runtime folder {folder} cannot take a copy of the models file: "
                    f"{error.strerror}."
                ) from error
        self._hooks = on_change, on_death
        self._files: list[EngineFiles] = []
        self._keeping: list[asyncio.Task[None]] = []
        stated = specs_of(settings, copy)
        selection = Selection() if before is None else before.selection
        self.selection: Selection = selection.after(change, [spec.name for spec in stated])
        unloaded = self.selection.unloaded
        specs = [spec for spec in stated if spec.name not in unloaded]
        self._options = ("--pins", str(self._pins), *(("--models", str(copy)) if copy else ()))
        for name in sorted(unloaded):
            self._options += (f"--without={name}",)  # a name may begin with a hyphen
        check_files(settings, specs)
        devices = settings.devices.split(",")
        self.engines = [
            self._new_engine(settings, specs, *numbered) for numbered in enumerate(devices)
        ]

    def _new_engine(
        self, settings: Settings, specs: Sequence[ModelSpec], index: int, device: str
    ) -> Child:
        name = f"engine-{index}" if self.number == 1 else f"engine-{index}.{self.number}"
        # Two generations live at once, never three.
        slot = f"engine-{index}{'ba'[self.number % 2]}"
        paths = EngineFiles(self._folder / f"{slot}.sock", self._folder / f"{slot}.measured")
        self._files.append(paths)
        words = ["--socket", str(paths.socket), "--measured", str(paths.measured)]
        words += ["--device", device, "--local-device", local_device(device), *self._options]
        if self._before is not None:
            words += ["--predecessor", str(self._before._files[index].measured)]
        on_change, on_death = self._hooks
        return Child(
            name=name,
            command=("-m", ENGINE_MODULE, *words, "--name", name),
            environment={
                **settings.as_environment(),
                **engine_environment(),
                **gpu_environment(device),
                **compiler_environment(settings, specs, device),
                "PROMETHEUS_MULTIPROC_DIR": str(self._folder / "metrics"),
            },
            metrics_folder=self._folder / "metrics",
            on_announcement=on_change,
            on_death=on_death,
            start_attempts=START_ATTEMPTS if self._before is None else 1,
            goes_first=self._before is not None,
            metrics_owner=slot,
        )

    @property
    def sockets(self) -> tuple[str, ...]:
        """The paths that HTTP workers connect to."""
        return tuple(str(paths.socket) for paths in self._files)

    @property
    def ready(self) -> bool:
        """Whether all engines are."""
        return all(engine.facts is not None for engine in self.engines)

    @property
    def models(self) -> list[dict[str, Any]]:
        """Facts about the models on each device, once it is ready."""
        return [model for engine in self.engines for model in (engine.facts or {})["models"]]

    def start(self) -> tuple[asyncio.Task[None], ...]:
        """Start the engines; return the tasks that keep them running.

        Raises:
            StartFailedError: if there is no memory for a second generation.
        """
        if self._before is not None:
            _check_memory(self._before)
        self._keeping = [asyncio.create_task(each.keep_running()) for each in self.engines]
        return tuple(self._keeping)

    async def until_ready(self, changes: Changes) -> None:
        """Wait until all engines are ready.

        Args:
            changes: noted whenever one has announced that it is.

        Raises:
            StartFailedError: if one cannot start.
        """
        ready = asyncio.create_task(changes.until(lambda: self.ready))
        try:
            await asyncio.wait({ready, *self._keeping}, return_when=asyncio.FIRST_COMPLETED)
            for keeping in self._keeping:
                if keeping.done():
                    keeping.result()
        finally:
            ready.cancel()

    def establish(self) -> None:
        """Make it the one that serves: from now on every death is followed by another start."""
        for engine in self.engines:
            engine.establish()

    async def end(self, hurry: asyncio.Event) -> None:
        """End the engines, and remove their files."""
        await asyncio.gather(
            *(
                engine.stop(grace_seconds=ENGINE_GRACE_SECONDS, hurry=hurry)
                for engine in self.engines
            )
        )
        await asyncio.gather(*self._keeping, return_exceptions=True)
        for path in self._own_paths():
            path.unlink(missing_ok=True)

    def _own_paths(self) -> Iterator[Path]:
        yield self._models
        yield from (self._pins, self._pins.with_suffix(".lock"))
        for paths in self._files:
            yield from (paths.socket, paths.measured, paths.journal)


def _check_memory(before: Generation) -> None:
    """Check that there is room for as much as the engines hold that serve now.

    Where there is none, the system would kill a process, perhaps one that serves.
    """
    pids = [engine.pid for engine in before.engines if engine.pid is not None]
    needed, available = own_bytes(pids), available_bytes()
    if available is not None and needed > available:
        raise StartFailedError(
            f"The engines that serve hold {needed / 2**20:.0f} MiB, and only "
            f"{available / 2**20:.0f} MiB are free for others beside them: raise the memory limit, "
            "or start the service anew."
        )

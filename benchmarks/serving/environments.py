"""Virtual environments for the peers and the plot, one each, since their pins conflict.

Also the environment variables of processes that run from this checkout, installed or not.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]


def environment_bin(name: str | None, home: Path = HERE, *, torch: bool = False) -> Path:
    """Return the folder of an environment's commands; create the environment if it is missing.

    Args:
        name: of ``requirements-NAME.txt``; None for the current environment.
        home: the folder with that file; the environment lies below its ``.venvs``.
        torch: whether our own version of torch is installed first.
    """
    if name is None:
        return Path(sys.executable).parent
    folder, requirements = home / ".venvs" / name, home / f"requirements-{name}.txt"
    stamp = folder / "installed.txt"
    if not stamp.exists() or stamp.read_text() != requirements.read_text():
        print(f"installing {requirements.name}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
        if torch:
            subprocess.run([str(REPOSITORY / "requirements/install_torch.sh"), *pip], check=True)
        subprocess.run([*pip, "install", "--quiet", "-r", str(requirements)], check=True)
        stamp.write_text(requirements.read_text())
    return folder / "bin"


def checkout_environment() -> dict[str, str]:
    """Return environment variables for a process that imports from the checkout first.

    They are this process's, without the service's settings.
    """
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("OVERLOCK_")}
    paths = [str(REPOSITORY), *filter(None, [inherited.get("PYTHONPATH")])]
    return inherited | {"PYTHONPATH": os.pathsep.join(paths)}

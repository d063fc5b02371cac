"""What comes before any heavy import: whose packages these are, how many threads there may be, where remarks go.

``lightning_modules``, ``datamodules``, ``metrics`` and ``experiments`` are common names. A stranger's ``metrics`` earlier
on the import path would shadow ours without a word, so the command line looks before it imports.
"""

import importlib.util
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator, MutableMapping, Sequence
from pathlib import Path

PACKAGES = ("experiments", "lightning_modules", "datamodules", "metrics")
ROOT = Path(__file__).resolve().parent.parent
"""The folder that holds the four packages: the repository, or site-packages."""

THREADS_FLAG = "--threads"
THREADS_VARIABLE = "IFMDM_THREADS"
THREADS_HELP = f"of torch (default: {THREADS_VARIABLE}, OMP_NUM_THREADS, or the cores at hand); 1 is best beside other work"
SLEEPING = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
"""Threads that wait for one another sleep: spinning takes the time of the core that the awaited one needs."""


class StartupError(Exception):
    """The program can't start as it was called.

    Not a ``UserError``: that one lies in a package which may itself be the stranger.
    """


def package_folder(name: str) -> Path | None:
    """Folder that ``import name`` would load the package from, without importing it; None where there is none."""
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.origin is not None:
        return Path(spec.origin).resolve().parent
    places = (
        [] if spec is None else list(spec.submodule_search_locations or [])
    )  # a folder without __init__.py
    return Path(places[0]).resolve() if places else None


def check_packages() -> None:
    """Raise ``StartupError`` if a package is missing, or another project's of that name comes first on the import path."""
    for name in PACKAGES:
        folder = package_folder(name)
        if folder is None:
            raise StartupError(
                f"the package '{name}' is missing beside '{PACKAGES[0]}' in {ROOT}: install ifmdm again"
            )
        if folder != ROOT / name:
            raise StartupError(
                f"the package '{name}' would be loaded from {folder} and not from {ROOT / name}: another project shadows it; "
                "take that folder off PYTHONPATH, or install ifmdm in a virtual environment of its own"
            )


def set_threads(words: Sequence[str], environment: MutableMapping[str, str] = os.environ) -> list[str]:
    """Settle the number of threads of torch and NumPy, which read it from the environment when they are loaded.

    ``--threads N`` comes first, then ``IFMDM_THREADS``, then the user's ``OMP_NUM_THREADS``, then the cores at hand.

    Args:
        words: of the command line.
        environment: is changed; what the user has set stays.

    Returns:
        The words without ``--threads N``, which may stand anywhere.

    Raises:
        StartupError: the number is none.
    """
    rest: list[str] = []
    wanted = environment.get(THREADS_VARIABLE)
    where, following = THREADS_VARIABLE, iter(words)
    for word in following:
        if word == THREADS_FLAG or word.startswith(f"{THREADS_FLAG}="):
            where, wanted = THREADS_FLAG, word.partition("=")[2] or next(following, "")
        else:
            rest.append(word)
    if wanted is not None:
        if not (wanted.isascii() and wanted.isdigit() and 1 <= int(wanted) <= 1024):
            raise StartupError(f"{where} is '{wanted}': use a whole number from 1 to 1024")
        environment["OMP_NUM_THREADS"] = wanted
    for name, value in SLEEPING.items():
        environment.setdefault(name, value)
    environment.setdefault("OMP_NUM_THREADS", str(cores_at_hand()))
    return rest


def cores_at_hand(
    controllers: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> int:
    """Cores that this process may really use: by its affinity and by the CPU quotas of its control groups.

    Args:
        controllers: where control groups are mounted, version 1 or 2.
        membership: the groups of this process, see ``man 7 cgroups``.
    """
    quotas = (int(quota) for quota in cpu_quotas(controllers, membership))
    from datamodules.processes import cores_of_process

    return max(1, min(cores_of_process(), *quotas, 1024))


def cpu_quotas(controllers: Path, membership: Path) -> Iterator[float]:
    """Quotas in cores of the process's group and of all groups around it; a container may not see all of them."""
    lines = membership.read_text().splitlines() if membership.is_file() else []
    for line in lines:
        _, names, place = line.split(":", 2)
        if names and "cpu" not in names.split(","):
            continue
        mount = controllers / "cpu" if names else controllers
        group = mount / place.strip("/")
        for folder in (group, *group.parents):
            yield from _quota(folder)
            if folder == mount:
                break


def _quota(folder: Path) -> Iterator[float]:
    """The quota that a group states, if it does: ``cpu.max`` of version 2, ``cpu.cfs_*`` of version 1."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        if quota != "max" and int(quota) > 0:
            yield int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return


def set_up_logging() -> None:
    """Progress and remarks go to standard error as plain lines, so that results can be piped."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for name in ("lightning.pytorch.utilities.rank_zero", "httpx", "matplotlib", "absl"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # A writer of logs may lose its folder or disk: the training tells it, its threads need not.
    threading.excepthook = lambda ended: (
        None if isinstance(ended.exc_value, OSError) else threading.__excepthook__(ended)
    )
    logging.getLogger("lightning").propagate = False  # it writes to standard error itself
    # Lightning asks torch by a name that newer torch calls deprecated: nothing a user could mend.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)

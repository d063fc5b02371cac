"""Start-up check: the four packages of the project are loaded from one folder.

``lightning_modules``, ``datamodules``, ``metrics`` and ``experiments`` are common names. A stranger's ``metrics`` earlier
on the import path would shadow ours without a word, so the command line looks before it imports.
"""

import importlib.util
from pathlib import Path

PACKAGES = ("experiments", "lightning_modules", "datamodules", "metrics")
ROOT = Path(__file__).resolve().parent.parent
"""The folder that holds the four packages: the repository, or site-packages."""


class PackageError(Exception):
    """A package of the project is missing or comes from elsewhere.

    Not a ``UserError``: that one lies in a package which may itself be the stranger.
    """


def package_folder(name: str) -> Path | None:
    """Folder that ``import name`` would load the package from, without importing it; None where there is none."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        return None
    if spec.origin is not None:
        return Path(spec.origin).resolve().parent
    locations = list(spec.submodule_search_locations or [])
    return Path(locations[0]).resolve() if locations else None


def check_packages() -> None:
    """Make sure that all packages of the project lie in one folder.

    Raises:
        PackageError: a package is missing, or another project's package of that name comes first on the import path.
    """
    for name in PACKAGES:
        folder = package_folder(name)
        if folder is None:
            raise PackageError(
                f"the package '{name}' is missing beside '{PACKAGES[0]}' in {ROOT}: install ifmdm again"
            )
        if folder != ROOT / name:
            raise PackageError(
                f"the package '{name}' would be loaded from {folder} and not from {ROOT / name}: another project shadows it; "
                "take that folder off PYTHONPATH, or install ifmdm in a virtual environment of its own"
            )

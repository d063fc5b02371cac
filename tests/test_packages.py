"""A stranger's package of the same name is noticed at start-up."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.packages import PACKAGES, ROOT, check_packages, package_folder


def run_cli(*words: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """``python -m experiments`` in a process of its own, with ``path`` before everything else on the import path."""
    places = [str(path)] if path else []
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*places, str(ROOT)]), "PYTHONSAFEPATH": "1"}
    return subprocess.run(
        [sys.executable, "-m", "experiments", *words],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )


def test_all_packages_come_from_one_root() -> None:
    check_packages()
    assert {package_folder(name) for name in PACKAGES} == {ROOT / name for name in PACKAGES}


@pytest.mark.parametrize("name", ["metrics", "datamodules"])
def test_a_strangers_package_gives_one_clear_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("raise SystemExit('imported by mistake')\n")
    done = run_cli("train", path=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(
        f"ifmdm: error: the package '{name}' would be loaded from {tmp_path / name}"
    )

"""The benchmark scripts, which are no package, as modules."""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a script by its name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module

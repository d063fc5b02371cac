"""Imports point one way: experiments -> metrics, lightning_modules, datamodules; nothing is re-exported."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("lightning_modules", "datamodules", "metrics", "experiments")
SHARED = tuple(
    f"datamodules.{name}" for name in ("batches", "media", "clips", "faces", "assets", "errors", "files")
)
FILES = [path.relative_to(ROOT) for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))]


def allowed(path: Path) -> tuple[str, ...]:
    """Modules and packages of the project that a file may import from."""
    package = path.parts[0]
    if path.is_relative_to("lightning_modules/networks"):
        # and a frozen network of others, which a loss and a measure look with, too
        return ("lightning_modules.networks", "datamodules.errors", "metrics.judges.efficientnet")
    if package == "experiments":
        return PACKAGES
    if package == "datamodules":
        return ("datamodules",)
    judges = ("metrics.judges",) if package == "lightning_modules" else ()
    return (package, *SHARED, *judges)


def imports(source: str) -> set[str]:
    """Dotted names of everything imported anywhere in a file, those of ``from a import b`` as ``a.b``."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            found.update(f"{base}.{alias.name}" for alias in node.names)
    return found


def forbidden(path: Path, source: str) -> list[str]:
    """Imports of a file that the rule does not allow."""
    bad = []
    for name in sorted(imports(source)):
        inside = any(name == rule or name.startswith(f"{rule}.") for rule in allowed(path))
        ours = name.split(".")[0] in PACKAGES
        if name.startswith(".") or (ours and not inside) or name.split(".")[0] == "pytorch_lightning":
            bad.append(name)
    return bad


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_point_one_way(path: Path) -> None:
    assert forbidden(path, (ROOT / path).read_text()) == []


@pytest.mark.parametrize("path", [p for p in FILES if p.name == "__init__.py"], ids=str)
def test_nothing_is_reexported(path: Path) -> None:
    assert imports((ROOT / path).read_text()) == set()


@pytest.mark.parametrize(
    ("path", "source", "bad"),
    [
        ("metrics/a.py", "from experiments.cli import main", True),
        ("metrics/a.py", "def f():\n    import lightning_modules.networks", True),
        ("metrics/a.py", "from datamodules.clips import manifest", False),
        ("metrics/a.py", "from datamodules import latents", True),
        ("metrics/a.py", "from datamodules.preparation.run import prepare", True),
        ("metrics/a.py", "from datamodules.media import video", False),
        ("lightning_modules/networks/a.py", "from datamodules.batches import WINDOW", True),
        ("lightning_modules/a.py", "from metrics.sync import lip_sync", True),
        ("lightning_modules/a.py", "from metrics.judges.syncnet import SyncNet", False),
        ("datamodules/a.py", "import metrics", True),
        ("datamodules/a.py", "from . import video", True),
        ("experiments/a.py", "import pytorch_lightning", True),
        ("experiments/a.py", "import metrics.motion, torch", False),
    ],
)
def test_the_rule_sees_what_it_should(path: str, source: str, bad: bool) -> None:
    assert bool(forbidden(Path(path), source)) is bad


def top_imports(body: list[ast.stmt]) -> Iterator[str]:
    """Dotted names of what is imported when a file is, not what waits for a call or for the type checker."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If):
            yield from top_imports(
                node.orelse if "TYPE_CHECKING" in ast.unparse(node.test) else node.body + node.orelse
            )
        elif isinstance(node, ast.Try | ast.With | ast.ClassDef):
            yield from top_imports(node.body)


def import_graph() -> dict[str, set[str]]:
    """Module -> the project's modules that it imports at its top."""
    modules = {".".join(path.with_suffix("").parts): path for path in FILES if path.name != "__init__.py"}
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        names = set(top_imports(ast.parse((ROOT / path).read_text()).body))
        graph[module] = {
            found for name in names for found in (name, name.rpartition(".")[0]) if found in modules
        }
    return graph


def rooms(graph: dict[str, set[str]], level: int) -> dict[str, set[str]]:
    """The graph of the packages and modules ``level`` names deep; what is less deep stays as it is."""
    found: dict[str, set[str]] = {}
    for module, imported in graph.items():
        room = ".".join(module.split(".")[:level])
        found.setdefault(room, set()).update(".".join(name.split(".")[:level]) for name in imported)
    return {room: imported - {room} for room, imported in found.items()}


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_neither_rooms_nor_modules_import_in_a_circle(level: int) -> None:
    assert list(TopologicalSorter(rooms(import_graph(), level)).static_order())  # CycleError in a circle


def test_a_circle_is_seen() -> None:
    graph = {"a.b.x": {"a.c"}, "a.c": {"a.b.y"}, "a.b.y": set()}  # no circle of modules, but one of rooms
    TopologicalSorter(rooms(graph, 3)).prepare()
    with pytest.raises(CycleError):
        TopologicalSorter(rooms(graph, 2)).prepare()

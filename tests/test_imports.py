"""Who may import whom, how large rooms are, and that the runtime needs no torch."""

from __future__ import annotations

import ast
import statistics
import sys
from pathlib import Path

import pytest

import chiasm
from chiasm.runs.extras import EXTRAS

ROOT = Path(chiasm.__file__).parent
# From the ground up: a room imports from those before it alone.
ROOMS = (
    *("errors", "display", "discharge", "samples", "registry", "settings", "metrics"),
    *("fusion", "files", "training", "reporting", "runs"),
    *("detection", "diagnosis"),
    *("runtime", "deploy", "api", "benchmarks", "line", "service", "cli", "__main__"),
)


def _modules() -> dict[str, Path]:
    return {
        ".".join(("chiasm", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
            ".__init__"
        ): path
        for path in sorted(ROOT.rglob("*.py"))
    }


MODULES = _modules()


def _imports(path: Path, *, lazy: bool = True) -> set[str]:
    """Names of chiasm's own modules that a file imports; without ``lazy``, at its top alone."""
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree) if lazy else iter(tree.body)
    found: set[str] = set()
    for node in nodes:
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute"
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        found |= {name for name in names if name in MODULES and name != "chiasm"}
    return found


IMPORTS = {name: _imports(path) for name, path in MODULES.items()}


def _room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("module", [name for name in MODULES if name != "chiasm"])
def test_imports_run_downwards(module: str):
    own = _room(module)
    for other in IMPORTS[module]:
        assert ROOMS.index(_room(other)) <= ROOMS.index(own), f"{module} imports {other}"


def test_neither_wing_imports_the_other():
    for module, others in IMPORTS.items():
        for one, other in (("detection", "diagnosis"), ("diagnosis", "detection")):
            if _room(module) == one:
                assert not [name for name in others if _room(name) == other], module


def test_there_is_no_circle():
    top = {name: _imports(path, lazy=False) - {name} for name, path in MODULES.items()}
    # A package's own __init__ is not held against the files in it.
    left = {
        name: {o for o in others if not name.startswith(f"{o}.")} for name, others in top.items()
    }
    while True:
        ground = [name for name, others in left.items() if not others & left.keys()]
        if not ground:
            break
        for name in ground:
            del left[name]
    assert not left


def test_the_runtime_takes_of_a_wing_what_needs_no_torch():
    allowed = (
        *("preparation", "quantities", "decision", "prediction.regions", "products.models"),
        *("readers.checked_sample", "readers.series_files"),
    )
    for module in (name for name in MODULES if _room(name) == "runtime"):
        for other in IMPORTS[module]:
            if _room(other) in ("detection", "diagnosis"):
                rest = other.split(".", 2)[2] if other.count(".") > 1 else "decision"
                assert rest.startswith(allowed), f"{module} imports {other}"


@pytest.mark.parametrize(
    ("modules", "packages"),
    [
        (("chiasm.runtime", "chiasm.runtime.detection", "chiasm.runtime.diagnosis"), ()),
        (("chiasm.detection.predict", "chiasm.diagnosis.predict"), ("rich",)),
        (("chiasm.cli.main",), ("rich", "typer")),
        (("chiasm.line.session", "chiasm.cli.watch"), ("rich", "typer")),
    ],
)
def test_a_station_needs_no_package_that_it_has_not(
    modules: tuple[str, ...], packages: tuple[str, ...]
):
    """Through no import at the top of a file, however far away: no PyTorch, and no SciPy either."""
    installed = {"numpy", "cv2", "tifffile", *packages}
    seen: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        waiting += _imports(MODULES[name], lazy=False)
        for node in ast.parse(MODULES[name].read_text()).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                named = (
                    [a.name for a in node.names]
                    if isinstance(node, ast.Import)
                    else [node.module or ""]
                )
                foreign = {n.split(".")[0] for n in named} - sys.stdlib_module_names - {"chiasm"}
                assert foreign <= installed, f"{name} imports {foreign - installed}"


def test_whatever_is_not_installed_has_an_extra_that_the_command_line_names():
    core = {"numpy", "cv2", "tifffile", "rich", "typer", "chiasm"}
    optional = {"timm"}  # found by its user, and said where it is needed
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            foreign = {name.split(".")[0] for name in names} - sys.stdlib_module_names
            assert foreign <= core | optional | EXTRAS.keys(), module


def test_rooms_are_of_a_size_that_is_seen_at_a_glance():
    lines = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert max(lines.values()) <= 500, max(lines, key=lambda name: lines[name])
    assert statistics.median(lines.values()) < 170
    loose = [path for path in ROOT.glob("*.py") if path.name != "__init__.py"]
    assert len(loose) <= 7, loose
    for folder in {path.parent for path in MODULES.values()}:
        assert len(list(folder.glob("*.py"))) <= 20, folder
        assert len(folder.relative_to(ROOT).parts) <= 2, folder

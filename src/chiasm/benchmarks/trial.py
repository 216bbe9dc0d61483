"""One run of a benchmark, named by what it is of: the same settings have the same name for ever."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

Wing = Literal["detector", "classifier"]

# What decides a run's result beside the method itself.
WORKFLOWS = {
    "detector": ("chiasm.detection.train", "chiasm.detection.evaluate"),
    "classifier": (
        "chiasm.diagnosis.train",
        "chiasm.diagnosis.evaluate",
        "chiasm.benchmarks.diagnosis_facts",
    ),
}
# These import every method, so another method's file would count as this one's.
_LISTS = ("chiasm.detection.models.named", "chiasm.diagnosis.models.named")


@dataclass(frozen=True, slots=True)
class Trial:
    """A run: which settings on which data.

    Attributes:
        wing: of the method.
        data: folder of one category or of recordings.
        settings: of the run, without ``data`` and ``out``.
        evaluation: further arguments of ``evaluate``.
    """

    wing: Wing
    data: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """Name of the registered model."""
        return str(self.settings["model"])

    @property
    def key(self) -> str:
        """The first 20 digits of the SHA-256 of settings and data."""
        return hashlib.sha256(json.dumps(self.described(), sort_keys=True).encode()).hexdigest()[
            :20
        ]

    @property
    def learned(self) -> Trial:
        """The cell without further arguments of ``evaluate``, which learns the same."""
        return replace(self, evaluation={}) if self.evaluation else self

    def described(self) -> dict[str, Any]:
        """Everything that names the run, as JSON."""
        return {
            "wing": self.wing,
            "data": data_signature(self.data),
            "category": self.data.name,
            "settings": json.loads(json.dumps(dict(self.settings))),
            "evaluation": json.loads(json.dumps(dict(self.evaluation))),
        }


@lru_cache(maxsize=256)
def data_signature(folder: Path) -> str:
    """A digest of names and sizes of all files, and of when they were last written.

    Reading every byte of a large set for every table would take longer than some of its runs.
    """
    digest = hashlib.sha256()
    files = [folder] if folder.is_file() else sorted(p for p in folder.rglob("*") if p.is_file())
    for path in files:
        found = path.stat()
        name = path.relative_to(folder) if path != folder else path.name
        digest.update(f"{name}:{found.st_size}:{found.st_mtime_ns}".encode())
    return digest.hexdigest()[:20]


@lru_cache(maxsize=256)
def code_fingerprint(wing: Wing, *method_modules: str) -> str:
    """SHA-256 over the sources that a method's result depends on.

    These are the modules of the method, the workflows that learn and judge, and all modules of this
    package that they import, directly or not. Another method's file does not change it.
    """
    waiting = [*method_modules, *WORKFLOWS[wing]]
    seen: dict[str, Path] = {}
    while waiting:
        name = waiting.pop()
        if name in seen or name in _LISTS:
            continue
        path = _source(name)
        if path is None:
            continue
        seen[name] = path
        waiting += _imported(path)
    digest = hashlib.sha256()
    for name in sorted(seen):
        digest.update(name.encode() + b"\0" + seen[name].read_bytes())
    return digest.hexdigest()[:20]


def fingerprint_of(cell: Trial) -> str:
    """The fingerprint of a cell's method; ``ConfigurationError`` where there is no such method."""
    # A worker on another machine has imported nothing yet.
    import chiasm.detection.models.named
    import chiasm.diagnosis.models.named  # noqa: F401
    from chiasm.registry import find_model, models

    there = {model.name for model in models(cell.wing)}
    # A method that joins others names them among its options.
    joined = [n for n in dict(cell.settings.get("options", {})).values() if str(n) in there]
    names = [cell.method, *sorted(map(str, joined))]
    return code_fingerprint(cell.wing, *(find_model(n).builder.__module__ for n in names))


def _source(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, AttributeError, ValueError):
        return None
    return Path(spec.origin) if spec is not None and spec.origin else None


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("chiasm"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("chiasm"):
            module = str(node.module)
            yield module
            # "from package import module" names a module, too.
            yield from (f"{module}.{a.name}" for a in node.names)

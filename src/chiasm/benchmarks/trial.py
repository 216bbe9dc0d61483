"""A trial of a benchmark: one run, whose key is a hash of its settings and data."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from chiasm.api import registered
from chiasm.registry import RegisteredModel, models, module_names

Wing = Literal["detector", "classifier"]

# Modules that decide a trial's result beside those of the method.
WORKFLOWS = {
    # Readers are found in their folder; no statement imports them.
    "detector": (
        "chiasm.detection.train",
        "chiasm.detection.evaluate",
        *module_names("chiasm.detection.readers"),
    ),
    "classifier": (
        "chiasm.diagnosis.train",
        "chiasm.diagnosis.evaluate",
        "chiasm.benchmarks.diagnosis_facts",
        *module_names("chiasm.diagnosis.readers"),
    ),
}


@dataclass(frozen=True, slots=True)
class Trial:
    """Settings of a run, and its data.

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
        """Return the name of the registered model."""
        return str(self.settings["model"])

    @property
    def key(self) -> str:
        """Return the first 20 digits of the SHA-256 of settings and data."""
        text = json.dumps(self.description(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    @property
    def training(self) -> Trial:
        """Return the trial without further arguments of ``evaluate``: its training is the same."""
        return replace(self, evaluation={}) if self.evaluation else self

    def description(self) -> dict[str, Any]:
        """Return what identifies the trial, as JSON."""
        return {
            "wing": self.wing,
            "data": data_signature(self.data),
            "category": self.data.name,
            "settings": json.loads(json.dumps(dict(self.settings))),
            "evaluation": json.loads(json.dumps(dict(self.evaluation))),
        }


@lru_cache(maxsize=256)
def data_signature(folder: Path) -> str:
    """Return a digest of the names, sizes and modification times of all files.

    Hashing every byte of a large data set for every table would take longer than some trials.
    """
    digest = hashlib.sha256()
    files = [folder] if folder.is_file() else sorted(p for p in folder.rglob("*") if p.is_file())
    for path in files:
        status = path.stat()
        name = path.relative_to(folder) if path != folder else path.name
        digest.update(f"{name}:{status.st_size}:{status.st_mtime_ns}".encode())
    return digest.hexdigest()[:20]


@lru_cache(maxsize=256)
def code_fingerprint(wing: Wing, *method_modules: str) -> str:
    """Return the SHA-256 over the sources that a method's result depends on.

    These are the modules of the method, those that train and evaluate, and all modules of this
    package that they import, directly or not. Another method's file does not change it.
    """
    pending = [*method_modules, *WORKFLOWS[wing]]
    seen: dict[str, Path] = {}
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        path = _source(name)
        if path is None:
            continue
        seen[name] = path
        pending += _imported(path)
    digest = hashlib.sha256()
    for name in sorted(seen):
        digest.update(name.encode() + b"\0" + seen[name].read_bytes())
    return digest.hexdigest()[:20]


def unlabelled_baselines(wing: Wing, labelled: Collection[str]) -> tuple[RegisteredModel, ...]:
    """Return the registered baselines of size ``"small"`` whose names are not in ``labelled``."""
    return tuple(
        model
        for model in models(wing)
        if model.baseline and model.size == "small" and model.name not in labelled
    )


def fingerprint_of(trial: Trial) -> str:
    """Return the fingerprint of a trial's method.

    Raises:
        ConfigurationError: there is no such method.
    """
    method = registered(trial.method)
    registered_names = {model.name for model in models(trial.wing)}
    # A method that combines others names them among its options.
    options = [str(value) for value in dict(trial.settings.get("options", {})).values()]
    members = sorted(name for name in options if name in registered_names)
    entries = [method, *map(registered, members)]
    return code_fingerprint(trial.wing, *(entry.builder.__module__ for entry in entries))


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

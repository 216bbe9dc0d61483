"""A run's folder: made once, and gone on with by the same settings on the same data only."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from chiasm.errors import ConfigurationError
from chiasm.settings import Settings

DATA = "training_data.sha256"
# What a stopped run goes on from, or a finished one left behind.
_BEGUN = ("checkpoints", "genotype.json", "finalists.json", "model")


def open_run_folder(config: Settings, folder: Path, *, free: Collection[str]) -> None:
    """Make a run's folder and keep the settings in it, or open that of a run to go on with.

    Args:
        config: of the run.
        folder: of the run.
        free: names of settings that may differ from those that it was begun with.

    Raises:
        ConfigurationError: it holds something of a run with other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.yaml"
    if path.exists() and _begun(folder):
        # Read as settings: renamed ones get their present name, newer ones their default.
        before, now = _flat(type(config).make(file=path)), _flat(config)
        names = (before.keys() | now.keys()) - set(free)
        other = sorted(name for name in names if before.get(name) != now.get(name))
        if other:
            raise ConfigurationError(_refusal(folder, f"other settings ({', '.join(other)})"))
    config.save(path)


def _flat(config: Settings) -> dict[str, Any]:
    """Settings by name as JSON values, nested ones by dotted names."""
    settings: dict[str, Any] = {}
    for name, value in config.model_dump(mode="json").items():
        nested = value if isinstance(value, dict) else {}
        settings |= {f"{name}.{inner}": v for inner, v in nested.items()} or {name: value}
    return settings


def keep_data_hash(folder: Path, digest: str) -> None:
    """Remember what a run learns from; raises ``ConfigurationError`` where that was other data."""
    path = folder / DATA
    if path.exists() and _begun(folder) and path.read_text().strip() != digest:
        raise ConfigurationError(_refusal(folder, "other training parts"))
    path.write_text(digest + "\n")


def _begun(folder: Path) -> bool:
    return any((folder / name).exists() for name in _BEGUN)


def _refusal(folder: Path, why: str) -> str:
    return (
        f"{folder} holds a run with {why}. Give another folder, delete this one, or give what it "
        "was begun with to go on with it."
    )

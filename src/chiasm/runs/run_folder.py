"""The folder of a run: made once, and resumed with the same settings on the same data only."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from chiasm.errors import ConfigurationError
from chiasm.settings import Settings

DATA = "training_data.sha256"
# Any of these shows that a run was started in the folder.
_RUN_FILES = ("checkpoints", "genotype.json", "finalists.json", "model", "products")


def open_run_folder(config: Settings, folder: Path, *, free: Collection[str]) -> None:
    """Make the folder of a run and save the settings in it, or open it to resume the run.

    Args:
        config: settings of the run.
        folder: folder of the run.
        free: names of settings that may differ when a run is resumed.

    Raises:
        ConfigurationError: the folder holds a run with other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.yaml"
    if path.exists() and _has_run(folder):
        # Validated as settings: renamed ones get their present name, newer ones their default.
        before, now = _flat(type(config).make(file=path)), _flat(config)
        names = (before.keys() | now.keys()) - set(free)
        changed = sorted(name for name in names if before.get(name) != now.get(name))
        if changed:
            raise ConfigurationError(
                _refusal(folder, f"other settings ({', '.join(changed)})"), see="run-folder"
            )
    config.save(path)


def _flat(config: Settings) -> dict[str, Any]:
    """Return the settings by name as JSON values; nested settings get dotted names."""
    settings: dict[str, Any] = {}
    for name, value in config.model_dump(mode="json").items():
        nested = value if isinstance(value, dict) else {}
        settings |= {f"{name}.{inner}": v for inner, v in nested.items()} or {name: value}
    return settings


def record_data_hash(folder: Path, digest: str) -> None:
    """Record the hash of the training data.

    Raises:
        ConfigurationError: the folder holds a run on other training data.
    """
    path = folder / DATA
    if path.exists() and _has_run(folder) and path.read_text().strip() != digest:
        raise ConfigurationError(_refusal(folder, "other training parts"), see="run-folder")
    path.write_text(digest + "\n")


def _has_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in _RUN_FILES)


def _refusal(folder: Path, difference: str) -> str:
    return (
        f"{folder} holds a run with {difference}. Choose another folder, delete this one, or "
        "resume the run with what it was started with."
    )

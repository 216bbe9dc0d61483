"""The folder of a trained model: its weights and its contract."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError

from chiasm.errors import ArtifactError

if TYPE_CHECKING:  # PyTorch takes 200 MB, and who asks for a folder's wing needs none of it
    import torch
    from torch import Tensor

WEIGHTS = "weights.safetensors"
CONTRACT = "contract.json"
GENOTYPE = "genotype.json"

AnyContract = TypeVar("AnyContract", bound=BaseModel)


class Strict(BaseModel):
    """A record of a contract: frozen, and without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def write_model(
    folder: Path,
    network: torch.nn.Module,
    contract: BaseModel,
    *,
    more: Callable[[Path], object] = lambda folder: None,
) -> None:
    """Write the weights, then further files, and last the contract, which makes the model whole.

    Args:
        folder: of the model.
        network: whose weights are written.
        contract: receives the SHA-256 of the weights as ``weights_sha256``.
        more: writes further files to the folder.

    Raises:
        ArtifactError: the folder cannot be written.
    """
    from safetensors.torch import save_file

    try:
        folder.mkdir(parents=True, exist_ok=True)
        weights = {n: value.cpu().contiguous() for n, value in network.state_dict().items()}
        temporary = folder / f".{WEIGHTS}.{os.getpid()}"
        save_file(weights, temporary)
        temporary.replace(folder / WEIGHTS)
        more(folder)
        write_contract(
            folder, contract.model_copy(update={"weights_sha256": file_digest(folder / WEIGHTS)})
        )
    except (OSError, SafetensorError) as error:
        raise ArtifactError(
            f"The model could not be written to {folder}: {error}. Free some space, or choose a "
            "folder that you may write to."
        ) from error


def write_contract(folder: Path, contract: BaseModel) -> None:
    """Write the contract of a model, in one step for other readers; ``OSError`` where it cannot."""
    temporary = folder / f".{CONTRACT}.{os.getpid()}"
    temporary.write_text(contract.model_dump_json(indent=2, by_alias=True) + "\n")
    temporary.replace(folder / CONTRACT)


def read_weights(folder: Path, sha256: str) -> dict[str, Tensor]:
    """Read the weights of a model; raise ``ArtifactError`` if their SHA-256 is another."""
    from safetensors.torch import load_file

    path = folder / WEIGHTS
    if not path.is_file():
        raise ArtifactError(f"{folder} has no {WEIGHTS}: copy the whole folder of the model.")
    if file_digest(path) != sha256:
        raise ArtifactError(
            f"{path} is not the file that the contract was written for (its SHA-256 differs): "
            "it was altered or cut short. Copy the model's folder again."
        )
    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from error


def read_contract_as(
    folder: Path,
    kind: type[AnyContract],
    *,
    wing: str,
    upgrade: Callable[[dict[str, Any]], dict[str, Any]] = lambda content: content,
) -> AnyContract:
    """Read and check the contract of a model.

    Args:
        folder: of the model.
        kind: class of the contract.
        wing: ``"detector"`` or ``"classifier"``, which the contract must name.
        upgrade: converts the content of an earlier version to the present one.

    Raises:
        ArtifactError: the contract is missing, damaged or of the other wing.
    """
    path = folder / CONTRACT
    if not path.is_file():
        raise ArtifactError(
            f"{folder} is not a model's folder: it has no {CONTRACT}. Name the folder that "
            "'chiasm train' wrote (its 'model' folder)."
        )
    try:
        content = json.loads(path.read_text())
        if wing_of(content) != wing:
            raise ArtifactError(f"{folder} holds a {wing_of(content)}; a {wing} was expected here.")
        return kind.model_validate(upgrade(content))
    except (ValidationError, json.JSONDecodeError) as error:
        raise ArtifactError(f"{path} is not a contract that this version reads: {error}") from error


def wing_of(contract: Any) -> str:
    """Return ``"detector"`` or ``"classifier"``; a contract that names no wing is a detector's."""
    return str(contract.get("wing", "detector")) if isinstance(contract, dict) else "detector"


def model_folder(folder: str | Path) -> Path:
    """Return the model's folder, given that folder or the run's folder above it."""
    path = Path(folder)
    if not (path / CONTRACT).exists() and (path / "model" / CONTRACT).exists():
        return path / "model"
    return path


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that compute scores."""
    names = ("chiasm", "torch", "numpy", "scipy", "opencv-python-headless")
    return {name: importlib.metadata.version(name) for name in names}


def parameter_count(network: torch.nn.Module) -> int:
    """Return the number of parameters, memory banks not counted."""
    return sum(p.numel() for p in network.parameters())


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

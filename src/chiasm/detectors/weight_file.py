"""Published weights in a local file: read without running anything that the file may hold."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from chiasm.errors import ArtifactError

_WRAPPERS = ("state_dict", "model_state_dict", "base_model", "model")


def read_weight_file(path: str | Path) -> dict[str, Tensor]:
    """Names and tensors of a state dict, from safetensors (by suffix) or a torch file.

    A torch file is read with ``weights_only=True``, so it cannot run code. A state dict inside a
    checkpoint, under ``state_dict``, ``model_state_dict``, ``base_model`` or ``model``, is taken
    out, and the prefix ``module.`` of parallel training is dropped.

    Raises:
        ArtifactError: there is no such file, it is truncated, or it holds no named tensors.
    """
    file = Path(path)
    if not file.is_file():
        raise ArtifactError(f"There is no file of weights at {file}; give the path of one.")
    try:
        if file.suffix == ".safetensors":
            held: object = load_file(file)
        else:
            held = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ArtifactError(
            f"{file} is no state dict, or holds more than tensors and plain values, and is not "
            "read, as it might run code; save its state dict alone, best as safetensors."
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise ArtifactError(
            f"{file} cannot be read as weights; it may be truncated, so fetch it again ({error})."
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(held, Mapping) and isinstance(held.get(wrapper), Mapping):
            held = held[wrapper]
            break
    if not isinstance(held, Mapping):
        raise ArtifactError(f"{file} holds {type(held).__name__}, not names with tensors.")
    found = {str(k).removeprefix("module."): v for k, v in held.items() if isinstance(v, Tensor)}
    if not found:
        raise ArtifactError(f"{file} holds no named tensors, so it has no weights.")
    return found


def check_fit(
    given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], *, file: str | Path, network: str
) -> None:
    """Compare names and shapes of given weights with those that a network wants.

    Weights that the network does not want are left alone: heads and decoders stay behind.

    Raises:
        ArtifactError: names what is missing and what has another shape.
    """
    missing = [name for name in wanted if name not in given]
    shapes = [
        f"{name} is {tuple(given[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in wanted
        if name in given and given[name].shape != wanted[name].shape
    ]
    said = []
    if missing:
        said.append(f"{len(missing)} of {len(wanted)} tensors are missing: {_some(missing)}")
    if shapes:
        said.append(f"{len(shapes)} have another shape: {_some(shapes)}")
    if said:
        raise ArtifactError(
            f"{file} holds weights of another architecture than {network}: {'; '.join(said)}."
        )


def in_words(path: str | Path) -> str:
    """Name and fingerprint of a file of weights, as it is stated in a contract."""
    with Path(path).open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return f"weights of {Path(path).name} (sha256 {digest[:12]})"


def _some(names: Iterable[str], count: int = 5) -> str:
    every = list(names)
    more = f" and {len(every) - count} more" if len(every) > count else ""
    return ", ".join(every[:count]) + more

"""Weights computed from their names, so that saved models of version 1 are small files."""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

_INLINE = 16  # values that are stored as they are


def describe(state: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return type, shape and, of small tensors, the values of a state."""
    return {
        name: {
            "dtype": str(value.dtype),
            "shape": list(value.shape),
            **({"values": value.tolist()} if value.size <= _INLINE else {}),
        }
        for name, value in state.items()
    }


def build(tensors: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return the tensors of a description; what is not stored follows from the name."""
    state = {}
    for name, entry in tensors.items():
        if "values" in entry:
            state[name] = np.array(entry["values"], dtype=entry["dtype"]).reshape(entry["shape"])
            continue
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        values = rng.normal(0.0, 0.05, entry["shape"])
        if name.endswith(("running_var", "usual")):  # a variance and a distance are positive
            values = np.abs(values) + 0.5
        if entry["dtype"].startswith("int"):
            values = np.arange(values.size).reshape(values.shape)
        state[name] = values.astype(entry["dtype"])
    return state


def write_model(stored: Path, folder: Path) -> Path:
    """Write a whole model of version 1 to ``folder``, of the files in ``stored``."""
    folder.mkdir(parents=True)
    weights = folder / "weights.safetensors"
    save_file(build(json.loads((stored / "tensors.json").read_text())), weights)
    contract = json.loads((stored / "contract.json").read_text())
    contract["weights_sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    (folder / "contract.json").write_text(json.dumps(contract))
    genotype = stored / "genotype.json"
    if genotype.exists():
        (folder / "genotype.json").write_text(genotype.read_text())
    return folder


def part(size: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """Return the RGB image and the points of a small cone on a plane 0.6 m away."""
    rows, columns = (np.mgrid[:size, :size] - size / 2) / size * 0.2
    radius = np.hypot(rows, columns)
    z = 0.6 - np.clip(0.02 - 0.3 * np.clip(radius - 0.02, 0, None), 0, None)
    xyz = np.dstack([columns, rows, z]).astype(np.float32)
    xyz[::17, ::13] = 0
    rgb = np.random.default_rng(0).uniform(0, 0.2, (size, size, 3)).astype(np.float32)
    rgb[radius < 0.08] += np.float32([0.5, 0.3, 0.2])
    return rgb, xyz


def recording(cycles: int = 90, per_cycle: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """Return the PRPD image and the pulse series of a recording with pulses near two phases."""
    rng = np.random.default_rng(1)
    series = rng.uniform(0, 3, (1, cycles * per_cycle)).astype(np.float32)
    for cycle in range(cycles):
        series[0, cycle * per_cycle + 30 + cycle % 5] += 60
        series[0, cycle * per_cycle + 95 + cycle % 7] += 40
    image = np.full((64, 64, 3), 0.05, np.float32)
    image[20:30, 12:20] = 0.8
    image[35:42, 45:52] = 0.6
    return image, series

"""Lists of splits as JSON, as Real-IAD and Real-IAD D3 have them."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from chiasm.detection.readers.opening import open_source
from chiasm.errors import DataError


def _picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def _lists(folder: Path, *, images: str = "realiad_1024", points: bool = False) -> Path:
    """Write two good parts of two views, and a defective one; return the list."""
    raw = folder / images / "plug"
    entries = {"train": [], "test": []}
    for part in ("S0001", "S0002"):
        for view in ("C1", "C2"):
            name = f"OK/{part}/plug_{part}_{view}.png"
            _picture(raw / name)
            entries["train"].append({"category": "plug", "image_path": name, "mask_path": None})
    _picture(raw / "PS/S0003/plug_C1.png")
    Image.fromarray(np.eye(24, 32, dtype=np.uint8) * 255).save(raw / "PS/S0003/plug_C1_mask.png")
    entries["test"].append(
        {"image_path": "PS/S0003/plug_C1.png", "mask_path": "PS/S0003/plug_C1_mask.png"}
    )
    for entry in (*entries["train"], *entries["test"]):
        entry["anomaly_class"] = entry["image_path"].split("/")[0]
        if points:
            entry["xyz_path"] = str(Path(entry["image_path"]).with_suffix(".tiff"))
            xyz = np.dstack([*np.mgrid[:24, :32] * 0.001, np.full((24, 32), 0.5)])
            tifffile.imwrite(raw / entry["xyz_path"], xyz.astype(np.float32), photometric="rgb")
    meta = {"normal_class": "OK", "prefix": "plug/"}
    path = folder / "realiad_jsons" / "realiad_jsons" / "plug.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"meta": meta, **entries}))
    return path


@pytest.mark.parametrize("points", [False, True])
def test_lists_and_images_side_by_side(tmp_path, points):
    source = open_source(_lists(tmp_path, points=points))
    assert [(ref.split, ref.kind, ref.label, ref.group) for ref in source.refs] == [
        *[("train", "good", 0, "S0001")] * 2,
        *[("train", "good", 0, "S0002")] * 2,
        ("test", "PS", 1, "S0003"),
    ]
    sample = source.load(source.refs[-1])
    assert sample.rgb.shape[:2] == (24, 32) and sample.mask.sum() == 24
    assert (sample.xyz is not None) == points


def test_images_in_two_folders_are_not_chosen_in_silence(tmp_path):
    _lists(tmp_path, images="realiad_256")
    path = _lists(tmp_path)
    with pytest.raises(DataError, match="Copy the list"):
        open_source(path)
    beside = tmp_path / "realiad_256" / path.name
    beside.write_bytes(path.read_bytes())
    assert "realiad_256" in str(open_source(beside).refs[0].files["rgb"])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"train": [{"image_path": 3, ', "cannot be read"),
        ('{"train": [], "x": "image_path"}', "lists no picture"),
        ('{"train": [{"image_path": "OK/0.png"}]}', "neither beside"),
        ('{"train": [{"mask": ""}], "test": [{"image_path": "0.png"}]}', "cannot be read"),
    ],
)
def test_damaged_lists_are_refused_with_a_remedy(tmp_path, text, sentence):
    path = tmp_path / "plug.json"
    path.write_text(text)
    with pytest.raises(DataError, match=sentence):
        open_source(path)

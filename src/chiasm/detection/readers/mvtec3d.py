"""Reader of the MVTec 3D-AD layout: ``{train,validation,test}/{kind}/{rgb,xyz,gt}``.

The layout is that of Bergmann et al., "The MVTec 3D-AD Dataset for Unsupervised 3D Anomaly
Detection and Localization", VISAPP 2022; ``gt`` is needed only beside defective parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from chiasm.detection.readers.checked_sample import checked_sample
from chiasm.detection.readers.source import SampleRef
from chiasm.errors import DataError
from chiasm.files.images import (
    RGB_SUFFIXES,
    XYZ_SUFFIXES,
    image_files,
    read_mask,
    read_rgb,
    read_xyz,
)
from chiasm.samples import RGBDSample

SPLITS = ("train", "validation", "test")
GOOD = "good"


class Mvtec3d:
    """One category in the MVTec 3D-AD layout.

    ``unit_m`` is the length of the point maps' unit in metres.
    Files that lack their partner are left out of ``refs`` and listed in ``problems``. Raises
    ``DataError`` where the folder has no split folder or not one complete pair.
    """

    def __init__(self, root: Path | str, *, unit_m: float = 1.0) -> None:
        self.root = Path(root)
        self.unit_m = unit_m
        if not recognises(self.root):
            raise DataError(
                f"{self.root} is not in the MVTec 3D-AD layout: none of the folders "
                "train/good, validation/good, test/good ... with rgb/ and xyz/ inside was found."
            )
        problems: list[str] = []
        self._refs = tuple(self._find(problems))
        self.problems: tuple[str, ...] = tuple(problems)
        if not self._refs:
            raise DataError(
                f"{self.root} has the MVTec 3D-AD layout but no complete pair of an rgb and an xyz "
                f"file. {' '.join(problems[:3])}"
            )

    @property
    def name(self) -> str:
        """Name of the category's folder."""
        return self.root.resolve().name

    @property
    def refs(self) -> tuple[SampleRef, ...]:
        """All complete samples, ordered by split, kind and file name."""
        return self._refs

    def load(self, ref: SampleRef) -> RGBDSample:
        """Read one sample; raises ``DataError`` naming the file and what is wrong with it."""
        return load_pair(ref, unit_m=self.unit_m)

    def _find(self, problems: list[str]) -> Iterator[SampleRef]:
        for split in SPLITS:
            for folder in _folders(self.root / split):
                yield from self._find_kind(split, folder, problems)

    def _find_kind(self, split: str, folder: Path, problems: list[str]) -> Iterator[SampleRef]:
        label = 0 if folder.name == GOOD else 1
        masks = image_files(folder / "gt", RGB_SUFFIXES)
        for files in paired_files(folder, problems):
            stem = files["rgb"].stem
            if stem in masks:
                files["mask"] = masks[stem]
            elif label == 1 and masks:
                problems.append(
                    f"{files['rgb']} has no mask {folder / 'gt' / stem}.png although other "
                    f"'{folder.name}' parts have one; add it, or remove gt/ to do without masks."
                )
                continue
            yield SampleRef(
                source=str(files["rgb"]),
                files=files,
                split=split,
                label=label,
                kind=folder.name,
                group=self.name,
            )


def recognises(root: Path) -> bool:
    """Tell whether a folder looks like a category in the MVTec 3D-AD layout."""
    return any(
        (kind / "rgb").is_dir() or (kind / "xyz").is_dir()
        for split in SPLITS
        for kind in _folders(root / split)
    )


def paired_files(folder: Path, problems: list[str]) -> Iterator[dict[str, Path]]:
    """Yield the files of ``rgb`` and ``xyz`` that share a stem; list the others in ``problems``."""
    rgb = image_files(folder / "rgb", RGB_SUFFIXES)
    xyz = image_files(folder / "xyz", XYZ_SUFFIXES)
    for stem in sorted(rgb.keys() | xyz.keys()):
        if stem not in xyz:
            problems.append(
                f"{rgb[stem]} has no partner {folder / 'xyz' / stem}.tiff; add it or remove "
                "the image."
            )
        elif stem not in rgb:
            problems.append(
                f"{xyz[stem]} has no partner {folder / 'rgb' / stem}.png; add it or remove "
                "the point map."
            )
        else:
            yield {"rgb": rgb[stem], "xyz": xyz[stem]}


def load_pair(ref: SampleRef, *, unit_m: float = 1.0) -> RGBDSample:
    """Read a sample from its ``rgb``, ``xyz`` and ``mask`` files, as far as it has them.

    ``unit_m`` is the length of the point map's unit in metres.
    """
    files = ref.files
    return checked_sample(
        ref,
        rgb=read_rgb(files["rgb"]) if "rgb" in files else None,
        xyz=read_xyz(files["xyz"], unit_m) if "xyz" in files else None,
        mask=read_mask(files["mask"]) if "mask" in files else None,
    )


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")

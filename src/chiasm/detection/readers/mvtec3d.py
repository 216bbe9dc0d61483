"""Reader of the MVTec 3D-AD layout: ``{train,validation,test}/{kind}/{rgb,xyz,gt}``.

The layout is that of Bergmann et al., "The MVTec 3D-AD Dataset for Unsupervised 3D Anomaly
Detection and Localization", VISAPP 2022; only defective parts need ``gt``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from chiasm.detection.readers.checked_sample import load_sample
from chiasm.detection.readers.sensor_folders import refuse_unread
from chiasm.detection.readers.source import SampleRef
from chiasm.errors import DataError
from chiasm.files.images import RGB_SUFFIXES, XYZ_SUFFIXES, image_files
from chiasm.files.readers import reader
from chiasm.samples import Problem, RGBDSample

SPLITS = ("train", "validation", "test")
GOOD = "good"


@reader("detection")
class Mvtec3d:
    """One category in the MVTec 3D-AD layout.

    ``unit_m`` is the length of the point maps' unit in metres; None takes metres. Without any
    ``rgb/``, the parts of a kind are 3D alone. Files without a partner are left out of ``refs``
    and listed in ``problems``. Raises ``DataError`` for a folder without a split folder or without
    a complete pair.
    """

    layout = "a folder in the MVTec 3D-AD layout (train/good/rgb, train/good/xyz, test/...)"

    def __init__(self, root: Path | str, *, unit_m: float | None = None) -> None:
        self.root = Path(root)
        self.unit_m = unit_m
        if not self.recognises(self.root):
            raise DataError(
                f"{self.root} is not in the MVTec 3D-AD layout: none of the folders "
                "train/good, validation/good, test/good ... with rgb/ and xyz/ inside was found."
            )
        problems: list[Problem] = []
        self._refs = tuple(self._find(problems))
        self.problems = tuple(problems)
        if not self._refs:
            raise DataError(
                f"{self.root} has the MVTec 3D-AD layout but no complete pair of an rgb and an xyz "
                f"file. {' '.join(map(str, problems[:3]))}"
            )

    @staticmethod
    def recognises(path: Path) -> bool:
        """Return whether a folder looks like a category in the MVTec 3D-AD layout."""
        return any(
            (kind / "rgb").is_dir() or (kind / "xyz").is_dir()
            for split in SPLITS
            for kind in _folders(path / split)
        )

    @property
    def name(self) -> str:
        """Name of the category's folder."""
        return self.root.resolve().name

    @property
    def refs(self) -> tuple[SampleRef, ...]:
        """All complete samples, ordered by split, kind and file name."""
        return self._refs

    @property
    def lamps(self) -> tuple[int, ...]:
        """The layout names no lamp."""
        return ()

    def load(self, ref: SampleRef) -> RGBDSample:
        """Read one sample; raises ``DataError`` naming the file and its fault."""
        return load_sample(ref, unit_m=self.unit_m)

    def _find(self, problems: list[Problem]) -> Iterator[SampleRef]:
        for split in SPLITS:
            for folder in _folders(self.root / split):
                yield from self._find_kind(split, folder, problems)

    def _find_kind(self, split: str, folder: Path, problems: list[Problem]) -> Iterator[SampleRef]:
        refuse_unread(folder)
        label = 0 if folder.name == GOOD else 1
        masks = image_files(folder / "gt", RGB_SUFFIXES)
        for files in paired_files(folder, problems):
            main = files.get("rgb") or files["xyz"]
            stem = main.stem
            if stem in masks:
                files["mask"] = masks[stem]
            elif label == 1 and masks:
                sentence = (
                    f"{main} has no mask {folder / 'gt' / stem}.png although other "
                    f"'{folder.name}' parts have one; add it, or remove gt/ to do without masks."
                )
                problems.append(Problem(str(main), sentence, left_out=True))
                continue
            yield SampleRef(
                source=str(main),
                files=files,
                split=split,
                label=label,
                kind=folder.name,
                group=self.name,
            )


def paired_files(folder: Path, problems: list[Problem]) -> Iterator[dict[str, Path]]:
    """Yield the files of ``rgb`` and ``xyz`` that share a stem; list the others in ``problems``.

    Without a folder ``rgb``, those of ``xyz`` are yielded alone.
    """
    rgb = image_files(folder / "rgb", RGB_SUFFIXES)
    xyz = image_files(folder / "xyz", XYZ_SUFFIXES)
    if not (folder / "rgb").is_dir():
        yield from ({"xyz": path} for path in xyz.values())
        return
    for stem in sorted(rgb.keys() | xyz.keys()):
        if stem in rgb and stem in xyz:
            yield {"rgb": rgb[stem], "xyz": xyz[stem]}
            continue
        if stem in rgb:
            path, partner, name = rgb[stem], folder / "xyz" / f"{stem}.tiff", "image"
        else:
            path, partner, name = xyz[stem], folder / "rgb" / f"{stem}.png", "point map"
        sentence = f"{path} has no partner {partner}; add it or remove the {name}."
        problems.append(Problem(str(path), sentence, left_out=True))


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")

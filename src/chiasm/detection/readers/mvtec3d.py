"""Reader of the MVTec 3D-AD layout: ``{train,validation,test}/{kind}/{rgb,xyz,gt}``.

3D-ADAM, as it is published for anomalib, has the same with its masks in ``ground_truth``.

The layout is that of Bergmann et al., "The MVTec 3D-AD Dataset for Unsupervised 3D Anomaly
Detection and Localization", VISAPP 2022; only defective parts need ``gt``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from chiasm.detection.readers.checked_sample import load_sample
from chiasm.detection.readers.sensor_folders import refuse_unread, unread_beside
from chiasm.detection.readers.source import Lamp, SampleRef
from chiasm.detection.sensors.pairing import Pairing, of_lamp, pair_files, with_copies_joined
from chiasm.errors import DataError
from chiasm.files.images import RGB_SUFFIXES, XYZ_SUFFIXES, image_files
from chiasm.files.readers import reader
from chiasm.files.words import GOOD, is_good
from chiasm.samples import Problem, RGBDSample

SPLITS = ("train", "validation", "test")
MASK_FOLDERS = ("gt", "ground_truth")  # the second of 3D-ADAM as anomalib has it


@reader("detection")
class Mvtec3d:
    """One category in the MVTec 3D-AD layout.

    ``unit_m`` is the length of the point maps' unit in metres; None takes metres. Without ``rgb/``
    or without ``xyz/``, the parts of a kind have one sensor alone. ``lamp`` chooses among pictures
    of one part whose names continue that of its point map by a number. Files without a partner are
    left out of ``refs`` and listed in ``problems``. Raises ``DataError`` for a folder without a
    split folder or without a complete pair.
    """

    layout = "a folder in the MVTec 3D-AD layout (train/good/rgb, train/good/xyz, test/...)"

    def __init__(
        self, root: Path | str, lamp: Lamp | None = None, *, unit_m: float | None = None
    ) -> None:
        self.root = Path(root)
        self.unit_m = unit_m
        if not self.recognises(self.root):
            raise DataError(
                f"{self.root} is not in the MVTec 3D-AD layout: none of the folders "
                "train/good, validation/good, test/good ... with rgb/ and xyz/ inside was found."
            )
        found = Pairing()
        refs, self.lamps = of_lamp(
            list(self._find(found)), lamp, found.remarks, str(self.root), self.layout
        )
        self._refs = tuple(refs)
        self.problems, self.remarks = tuple(found.problems), tuple(found.remarks)
        if not self._refs:
            raise DataError(
                f"{self.root} has the MVTec 3D-AD layout but no complete pair of an rgb and an xyz "
                f"file. {' '.join(map(str, self.problems[:3]))}"
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

    def load(self, ref: SampleRef) -> RGBDSample:
        """Read one sample; raises ``DataError`` naming the file and its fault."""
        return load_sample(ref, unit_m=self.unit_m)

    def _find(self, found: Pairing) -> Iterator[SampleRef]:
        for split in SPLITS:
            for folder in _folders(self.root / split):
                yield from self._find_kind(split, folder, found)

    def _find_kind(self, split: str, folder: Path, found: Pairing) -> Iterator[SampleRef]:
        refuse_unread(folder)
        label = 0 if is_good(folder.name) else 1
        place = next((folder / n for n in MASK_FOLDERS if (folder / n).is_dir()), folder / "gt")
        masks = image_files(place, RGB_SUFFIXES)
        refs = list(paired_parts(folder, found))
        read = [path for ref in refs for path in ref.files.values()]
        for sentence in unread_beside(folder, read, ("rgb", "xyz", *MASK_FOLDERS)):
            if sentence not in found.remarks:
                found.remarks.append(sentence)
        for ref in refs:
            main = Path(ref.source)
            files = dict(ref.files)
            mask = masks.get(main.stem) or masks.get(files.get("xyz", main).stem)
            if mask is not None:
                files["mask"] = mask
            elif label == 1 and masks:
                sentence = (
                    f"{main} has no mask {place / main.stem}.png although other '{folder.name}' "
                    f"parts have one; add it, or remove {place.name}/ to do without masks."
                )
                found.problems.append(Problem(str(main), sentence, left_out=True))
                continue
            yield replace(
                ref,
                files=files,
                split=split,
                label=label,
                kind=folder.name if label else GOOD,
                group=self.name,
            )


def paired_parts(folder: Path, found: Pairing) -> Iterator[SampleRef]:
    """Yield the parts of ``rgb`` and ``xyz``; ``found`` gets the files without a partner.

    With one of the two folders, its files are parts of this sensor alone.
    """
    rgb = image_files(folder / "rgb", RGB_SUFFIXES)
    xyz = image_files(folder / "xyz", XYZ_SUFFIXES)
    if not (folder / "rgb").is_dir():
        yield from (SampleRef(str(path), {"xyz": path}) for path in xyz.values())
        return
    if not (folder / "xyz").is_dir():
        yield from (SampleRef(str(path), {"rgb": path}) for path in rgb.values())
        return
    pairing = pair_files(
        list(rgb.values()),
        list(xyz.values()),
        noun="point map",
        folders=(folder / "rgb", folder / "xyz"),
    )
    found.problems += pairing.problems
    found.remarks += [f"{folder}: {remark}" for remark in pairing.remarks]
    for pair in with_copies_joined(pairing.pairs):
        files = {"rgb": pair.colour, "xyz": pair.points}
        yield SampleRef(str(pair.colour), files, lamp=pair.lamp)


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")

"""Reader of folders of colour images without 3D files, in the layouts that 2D tools use.

- MVTec AD (Bergmann et al., CVPR 2019), with the variants of MVTec LOCO (several masks of a part)
  and MVTec AD 2 (``test_public``): ``train/good/000.png``, ``test/KIND/000.png`` and
  ``ground_truth/KIND/000_mask.png``;
- VisA (Zou et al., ECCV 2022): ``Data/Images/{Normal,Anomaly}``, ``Data/Masks/Anomaly``, and its
  table ``split_csv/1cls.csv`` beside the category;
- the colours of MulSen-AD (Li et al., CVPR 2025): ``RGB/train/0.png``, ``RGB/test/KIND``,
  ``RGB/GT/KIND``; its infrared images and meshes are not of the same pixels;
- anomalib's folders: one of good parts, one for each kind of defect, and one of masks; beside each,
  point maps may lie in one named with ``_depth``;
- a folder with images directly inside: parts of unknown quality.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from chiasm.detection.readers.checked_sample import load_sample
from chiasm.detection.readers.sensor_folders import refuse_mixed
from chiasm.detection.readers.source import SampleRef
from chiasm.detection.sensors.pairing import pair_files
from chiasm.errors import DataError
from chiasm.files.images import RGB_SUFFIXES, XYZ_SUFFIXES, holds_points, image_files
from chiasm.files.readers import reader
from chiasm.files.tables import read_rows
from chiasm.files.words import GOOD, POINT_WORDS, is_good
from chiasm.samples import Problem, RGBDSample

SPLIT_FOLDERS = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "test": "test",
    "test_public": "test",
}
MASK_FOLDERS = ("ground_truth", "mask", "masks", "gt")
_EYECANDIES = "data"  # its images are not of one kind
TEST_SHARE = 0.2  # of the good parts, where no folder holds good parts for the test; as anomalib
_TEST_GOOD = re.compile(r"(test[_-]?(?P<a>[a-z]+)|(?P<b>[a-z]+)[_-]?test)", re.IGNORECASE)


@dataclass
class Listing:
    """What a layout holds.

    Attributes:
        refs: of its parts.
        problems: files that are left out.
        remarks: what was assumed, a sentence each.
    """

    refs: list[SampleRef] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


@reader("detection", order=2)
class ImageFolder:
    """Parts of colour images alone, in the layouts of this file.

    Good parts without a test folder of their own are divided: a fifth of them, chosen by the names
    of their files, is for the test. Files without a partner are listed in ``problems``, and what
    was assumed in ``remarks``. Raises ``DataError`` for a folder without an image.
    """

    layout = (
        "a folder of images: directly inside, as train/good, test/KIND and ground_truth/KIND "
        "(MVTec AD), as Data/Images (VisA), or a folder of good parts beside others of defects"
    )

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        listing = next((find for fits, find in LAYOUTS if fits(self.root)), _plain)(self.root)
        if not listing.refs:
            raise DataError(
                f"{self.root} has no usable image. {' '.join(map(str, listing.problems[:3]))}"
            )
        self._refs = tuple(listing.refs)
        self.problems = tuple(listing.problems)
        self.remarks = tuple(listing.remarks)

    @staticmethod
    def recognises(path: Path) -> bool:
        """Return whether a folder has one of the layouts, and no folder of 3D files."""
        return not _has_sensor_folders(path) and any(fits(path) for fits, _ in LAYOUTS)

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.root.resolve().name

    @property
    def refs(self) -> tuple[SampleRef, ...]:
        """All usable parts, ordered by split, kind and file name."""
        return self._refs

    @property
    def lamps(self) -> tuple[int, ...]:
        """The layouts name no lamp."""
        return ()

    def load(self, ref: SampleRef) -> RGBDSample:
        """Read one sample; raises ``DataError`` naming the file and its fault."""
        return load_sample(ref)


def _mvtec_ad(root: Path) -> Listing:
    listing = Listing()
    for name, split in SPLIT_FOLDERS.items():
        for path in _loose_images(root / name):
            sentence = (
                f"{path} lies directly in {name}/, so that it is not known to be good; move it to "
                f"{root / name / GOOD}, or to a folder named by its defect."
            )
            listing.problems.append(Problem(str(path), sentence, left_out=True))
        for folder in _folders(root / name):
            if folder.name not in (*MASK_FOLDERS, _EYECANDIES):
                places = [root / name / masks / folder.name for masks in MASK_FOLDERS]
                if split == "test":
                    places += [root / masks / folder.name for masks in MASK_FOLDERS]
                _add_kind(listing, folder, split, root, next(filter(Path.is_dir, places), None))
    return listing


def _fits_mvtec_ad(root: Path) -> bool:
    return any(
        _holds_images(kind)
        for name in SPLIT_FOLDERS
        for kind in _folders(root / name)
        if kind.name not in (*MASK_FOLDERS, _EYECANDIES)
    )


def _visa(root: Path) -> Listing:
    images, masks = root / "Data" / "Images", root / "Data" / "Masks"
    listing = Listing()
    for folder in _folders(images):
        places = [masks / folder.name]
        _add_kind(listing, folder, "", root, next(filter(Path.is_dir, places), None))
    table = root.parent / "split_csv" / "1cls.csv"
    if not table.is_file():
        return _divided(listing, f"{table} was not found")
    columns, rows = read_rows(table)
    if not {"object", "split", "image"} <= set(columns):
        raise DataError(
            f"{table} has the columns {', '.join(columns)}; object, split and image were expected, "
            "as in VisA's split_csv/1cls.csv. Replace the file, or remove it to divide the parts "
            "by their names."
        )
    split_of = {
        row["image"].replace("\\", "/"): row["split"].lower()
        for row in rows
        if row["object"] == root.resolve().name
    }
    kept = []
    for ref in listing.refs:
        name = f"{root.resolve().name}/{ref.files['rgb'].relative_to(root).as_posix()}"
        split = SPLIT_FOLDERS.get(split_of.get(name, ""))
        if split is None:
            sentence = (
                f"{ref.source} has no split in {table}; add a row of '{name}', or remove the image."
            )
            listing.problems.append(Problem(ref.source, sentence, left_out=True))
        else:
            kept.append(replace(ref, split=split))
    return replace(listing, refs=sorted(kept, key=_split_order))


def _fits_visa(root: Path) -> bool:
    return any(_holds_images(kind) for kind in _folders(root / "Data" / "Images"))


def _mulsen(root: Path) -> Listing:
    """Read the colours; a defect that they do not show, by the table of labels, is left out."""
    colours = root / "RGB"
    listing = Listing()
    _add_kind(listing, colours / "train", "train", root, None, kind=GOOD)
    for folder in _folders(colours / "test"):
        masks = colours / "GT" / folder.name
        _add_kind(listing, folder, "test", root, masks if _holds_images(masks) else None)
    unseen = {
        str(path)
        for folder in _folders(colours / "test")
        if not is_good(folder.name)
        for path in _without_colour_defect(folder, colours / "GT" / folder.name / "data.csv")
    }
    listing.refs = [ref for ref in listing.refs if ref.source not in unseen]
    listing.problems = [p for p in listing.problems if p.source not in unseen]
    listing.remarks.append(
        "Colours alone are read: infrared images and meshes of MulSen-AD are not of their pixels."
        + (f" {len(unseen)} parts whose defect they do not show are left out." if unseen else "")
    )
    return listing


def _without_colour_defect(folder: Path, table: Path) -> list[Path]:
    """Return the images whose first label in the table, that of colours, is 0."""
    if not table.is_file():
        return []
    columns, rows = read_rows(table)
    images = image_files(folder, RGB_SUFFIXES)
    found = []
    for row in rows:
        values = [row[column] for column in columns]
        stem = Path(values[0]).stem if values else ""
        if len(values) > 1 and values[1] in ("0", "0.0") and stem in images:
            found.append(images[stem])
    return found


def _fits_mulsen(root: Path) -> bool:
    return _holds_images(root / "RGB" / "train") and (root / "RGB" / "test").is_dir()


def _by_quality(root: Path) -> Listing:
    listing = Listing()
    names = {folder.name for folder in _folders(root)}
    for folder in _folders(root):
        if folder.name.lower() in MASK_FOLDERS or not _holds_images(folder):
            continue
        if (owner := _owner_of_points(folder.name, names)) is not None:
            _check_points(folder, owner)
            continue
        match = _TEST_GOOD.fullmatch(folder.name)
        of_test = match is not None and is_good(match["a"] or match["b"])
        kind = GOOD if of_test else folder.name
        masks = [place for name in MASK_FOLDERS for place in _named(root, name)]
        places = [place / folder.name for place in masks] + masks
        split = "test" if of_test else ""
        usable = None if is_good(kind) else next((p for p in places if _holds_images(p)), None)
        points = next((root / n for n in names if _owner_of_points(n, names) == folder.name), None)
        _add_kind(listing, folder, split, root, usable, kind=kind, points=points)
    return _divided(listing, "no folder holds good parts for the test")


def _owner_of_points(name: str, names: set[str]) -> str | None:
    """Return the folder of images whose points a folder holds: ``good`` of ``good_depth``; "" of
    a folder that is named by a sensor alone, and None of one of images.
    """
    words = [word for word in re.split(r"[_\W]+", name.lower()) if word]
    rest = [word for word in words if word not in POINT_WORDS]
    if len(rest) == len(words):
        return None
    return next((n for n in names if [w for w in re.split(r"[_\W]+", n.lower()) if w] == rest), "")


def _check_points(folder: Path, owner: str) -> None:
    first = min(_loose_images(folder))
    if owner and holds_points(first):
        return
    raise DataError(
        f"{folder} holds 3D files such as {first}, which are not read as they are: point maps in a "
        "folder named as that of their images with _depth behind it, or none, were expected. Put "
        "images into train/good/rgb and 3D files into train/good/depth, and convert them: chiasm "
        "data convert FOLDER NEW. For colours alone, move the folder away."
    )


def _fits_by_quality(root: Path) -> bool:
    return any(is_good(folder.name) and _holds_images(folder) for folder in _folders(root))


def _plain(root: Path) -> Listing:
    refuse_mixed(root)
    return Listing(
        [
            SampleRef(source=str(path), files={"rgb": path}, group=root.resolve().name)
            for path in image_files(root, RGB_SUFFIXES).values()
        ]
    )


def _holds_images(folder: Path) -> bool:
    return next(_loose_images(folder), None) is not None


# Whether a folder has a layout, and what it holds; the first that fits is taken.
LAYOUTS: tuple[tuple[Callable[[Path], bool], Callable[[Path], Listing]], ...] = (
    (_fits_mvtec_ad, _mvtec_ad),
    (_fits_visa, _visa),
    (_fits_mulsen, _mulsen),
    (_fits_by_quality, _by_quality),
    (_holds_images, _plain),
)


def _add_kind(
    listing: Listing,
    folder: Path,
    split: str,
    root: Path,
    masks: Path | None,
    *,
    kind: str = "",
    points: Path | None = None,
) -> None:
    """List the images of one quality; ``masks`` and ``points`` are folders of theirs, or None."""
    kind = kind or folder.name
    label = 0 if is_good(kind) else 1
    refuse_mixed(folder)
    images = image_files(folder, RGB_SUFFIXES)
    masks_of = {} if masks is None else _masks(masks)
    points_of: dict[Path, Path] = {}
    if points is not None:
        found_points = list(image_files(points, XYZ_SUFFIXES).values())
        pairing = pair_files(list(images.values()), found_points, folders=(folder, points))
        listing.problems += pairing.problems
        listing.remarks += pairing.remarks
        points_of = {pair.colour: pair.points for pair in pairing.pairs}
        images = {stem: path for stem, path in images.items() if path in points_of}
    for stem, path in images.items():
        files = {"rgb": path} | ({"xyz": points_of[path]} if points_of else {})
        found = masks_of.pop(stem, None) or masks_of.pop(f"{stem}_mask", None)
        if found is not None and label == 1:
            files |= dict(zip(("mask", *(f"mask_{n}" for n in range(1, len(found)))), found))
        elif label == 1 and masks is not None:
            sentence = (
                f"{path} has no mask {masks / stem}_mask.png although {masks} holds those of "
                f"other parts; add it, or remove {masks} to do without masks."
            )
            listing.problems.append(Problem(str(path), sentence, left_out=True))
            continue
        listing.refs.append(
            SampleRef(
                source=str(path),
                files=files,
                split=split,
                label=label,
                kind=GOOD if label == 0 else kind,
                group=root.resolve().name,
            )
        )
    if masks is not None and masks.name == folder.name:  # of this kind alone
        for paths in masks_of.values():
            sentence = f"{paths[0]} has no image in {folder}; add it or remove the mask."
            listing.problems.append(Problem(str(paths[0]), sentence, left_out=True))


def _masks(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Return the masks of a folder by stem; a folder of a part's name holds several of one part."""
    single = {stem: (path,) for stem, path in image_files(folder, RGB_SUFFIXES).items()}
    several = {
        part.name: tuple(image_files(part, RGB_SUFFIXES).values()) for part in _folders(folder)
    }
    return single | {stem: paths for stem, paths in several.items() if paths}


def _divided(listing: Listing, reason: str) -> Listing:
    """Give parts without a split one: defective parts and a share of the good ones are tested.

    The share is chosen by a hash of the names, so that it stays when parts are added.
    """
    good = [ref for ref in listing.refs if ref.label == 0 and not ref.split]
    tested: set[str] = set()
    enough = any(ref.label == 0 and ref.split == "test" for ref in listing.refs)
    if any(ref.label == 1 for ref in listing.refs) and not enough:
        order = sorted(
            good, key=lambda ref: hashlib.sha256(Path(ref.source).name.encode()).digest()
        )
        tested = {ref.source for ref in order[: round(TEST_SHARE * len(good))]}
        listing.remarks.append(
            f"A training leaves {len(tested)} of {len(good)} good parts to the test, chosen by "
            f"the names of their files, because {reason}. Put good parts into train/good and "
            "test/good to choose yourself."
        )
    refs = [
        replace(
            ref, split=ref.split or ("test" if ref.label == 1 or ref.source in tested else "train")
        )
        for ref in listing.refs
    ]
    return replace(listing, refs=sorted(refs, key=_split_order))


def _split_order(ref: SampleRef) -> int:
    return ("train", "validation", "test").index(ref.split)


def _has_sensor_folders(path: Path) -> bool:
    """Return whether a folder is one of a layout with 3D files, which colours alone would hide."""
    beside = path.name == "rgb" and (path.parent / "xyz").is_dir()
    inside = {folder.name for folder in _folders(path)}  # by case, on every system
    return beside or not inside.isdisjoint(("rgb", "xyz"))


def _named(root: Path, name: str) -> list[Path]:
    """Return the folders of a name in any case."""
    return [folder for folder in _folders(root) if folder.name.lower() == name]


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")


def _loose_images(folder: Path) -> Iterator[Path]:
    """Yield the images directly inside a folder, in no order."""
    if folder.is_dir():
        for path in folder.iterdir():
            if path.suffix.lower() in RGB_SUFFIXES and path.name[0] != "." and path.is_file():
                yield path

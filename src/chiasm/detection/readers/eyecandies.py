"""Reader of the Eyecandies dataset in its native layout: ``{train,val,test_public}/data/``.

Bonfiglioli et al., "The Eyecandies Dataset for Unsupervised Multimodal Anomaly Detection and
Localization", ACCV 2022. Parts are rendered from a fixed camera under six lamps; images of any
subset of the lamps are accepted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from chiasm.detection.readers.camera import Intrinsics, back_project
from chiasm.detection.readers.checked_sample import load_sample
from chiasm.detection.readers.source import Lamp, SampleRef
from chiasm.errors import DataError
from chiasm.files.decoding import bytes_of, numbers_of
from chiasm.files.images import one_channel
from chiasm.files.readers import reader
from chiasm.samples import FloatArray, Problem, RGBDSample

SPLIT_FOLDERS = {"train": "train", "val": "validation", "test_public": "test"}
DEFECTS = ("bumps", "colors", "dents", "normals")
# The renderer's camera: with this focal length the table is planar and tilted by 45 degrees.
FOCAL_PER_WIDTH = 711.11 / 512
_DEPTH_COUNTS = 65535
_IMAGE = re.compile(r"(\d+)_image_(\d+)\.png")
_STEM = re.compile(r"(\d+)_(?:image_\d+|depth)\.png")


@reader("detection")
class Eyecandies:
    """One category of Eyecandies, under one lamp or all.

    ``lamp`` is the number in ``NNN_image_L.png``; None takes the lamp that most samples have, and
    the lowest of several. ``"all"`` takes every test sample under each of its lamps and every other
    sample under one of them, drawn by its number, as EasyNet and 3D-ADNAS do. Samples without a
    needed file are left out and listed in ``problems``.
    Depth becomes points in the renderer's units, which are taken as metres. Raises ``DataError``
    for another layout or a missing lamp.
    """

    layout = "an Eyecandies category (train/data/000_image_0.png ...)"

    def __init__(self, root: Path | str, lamp: Lamp | None = None) -> None:
        self.root = Path(root)
        if not self.recognises(self.root):
            raise DataError(
                f"{self.root} is not in the Eyecandies layout: no train/data, val/data or "
                "test_public/data with files such as 000_image_0.png was found."
            )
        self._names = {
            folder: frozenset(p.name for p in (self.root / folder / "data").iterdir())
            for folder in SPLIT_FOLDERS
            if (self.root / folder / "data").is_dir()
        }
        count = self._images_by_lamp()
        self.lamps = tuple(sorted(count))
        self.lamp: Lamp = "all" if lamp == "all" else self._choose(lamp, count)
        problems: list[Problem] = []
        self._refs = tuple(self._find(problems))
        self.problems = tuple(problems)
        if not self._refs:
            raise DataError(
                f"{self.root} has no complete sample. {' '.join(map(str, problems[:3]))}"
            )

    @staticmethod
    def recognises(path: Path) -> bool:
        """Return whether a folder looks like a category of Eyecandies in its native layout."""
        return any(
            _IMAGE.fullmatch(file.name)
            for folder in SPLIT_FOLDERS
            if (path / folder / "data").is_dir()
            for file in (path / folder / "data").iterdir()
        )

    @property
    def name(self) -> str:
        """Name of the category's folder."""
        return self.root.resolve().name

    @property
    def refs(self) -> tuple[SampleRef, ...]:
        """All complete samples, ordered by split and number."""
        return self._refs

    def load(self, ref: SampleRef) -> RGBDSample:
        """Read one sample; raises ``DataError`` naming the file and its fault."""
        return load_sample(ref, xyz=_rendered_points(ref.files["depth"], ref.files["info_depth"]))

    def _images_by_lamp(self) -> Counter[int]:
        matches = (_IMAGE.fullmatch(name) for names in self._names.values() for name in names)
        return Counter(int(match[2]) for match in matches if match)

    def _choose(self, lamp: int | None, count: Counter[int]) -> int:
        if lamp is None:
            return min(count, key=lambda number: (-count[number], number))
        if lamp not in count:
            raise DataError(
                f"{self.root} has no image under lamp {lamp}; the lamps found are "
                f"{', '.join(map(str, sorted(count)))}."
            )
        return lamp

    def _find(self, problems: list[Problem]) -> Iterator[SampleRef]:
        for folder, split in SPLIT_FOLDERS.items():
            names = self._names.get(folder, frozenset())
            stems = {match[1] for match in map(_STEM.fullmatch, names) if match}
            for stem in sorted(stems, key=lambda s: (int(s), s)):
                for lamp in self._lamps_of(stem, split, names):
                    ref = self._reference(
                        self.root / folder / "data", stem, split, names, problems, lamp
                    )
                    if ref is not None:
                        yield ref

    def _lamps_of(self, stem: str, split: str, names: frozenset[str]) -> tuple[int, ...]:
        """Return the lamps under which a sample is read."""
        if self.lamp != "all":
            return (self.lamp,)
        lamps = tuple(lamp for lamp in self.lamps if f"{stem}_image_{lamp}.png" in names)
        if split == "test" and lamps:
            return lamps
        # The image of a sample without any is then told to be missing.
        lamps = lamps or self.lamps
        return (lamps[np.random.default_rng(int(stem)).integers(len(lamps))],)

    def _reference(
        self,
        data: Path,
        stem: str,
        split: str,
        names: frozenset[str],
        problems: list[Problem],
        lamp: int,
    ) -> SampleRef | None:
        endings = {
            "rgb": f"image_{lamp}.png",
            "depth": "depth.png",
            "info_depth": "info_depth.yaml",
            "mask": "mask.png",
            "normals": "normals.png",
            "metadata": "metadata.yaml",
            **{f"{defect}_mask": f"{defect}_mask.png" for defect in DEFECTS},
        }
        files = {
            role: data / f"{stem}_{end}"
            for role, end in endings.items()
            if f"{stem}_{end}" in names
        }
        missing = [
            f"{stem}_{endings[role]}"
            for role in ("rgb", "depth", "info_depth")
            if role not in files
        ]
        if missing:
            sentence = (
                f"Sample {stem} in {data} lacks {', '.join(missing)}; add the file or remove "
                "the sample."
            )
            problems.append(Problem(str(data / missing[0]), sentence, left_out=True))
            return None
        try:
            label, kind = _label_of_metadata(files.get("metadata"), split)
        except DataError as error:
            problems.append(Problem(str(files["metadata"]), str(error), left_out=True))
            return None
        return SampleRef(
            source=str(files["rgb"]),
            files=files,
            split=split,
            label=label,
            kind=kind,
            group=self.name,
            lamp=lamp,
        )


def _label_of_metadata(metadata: Path | None, split: str) -> tuple[int | None, str]:
    """Return label and kind; parts without metadata are good, or unknown in the test split."""
    if metadata is None:
        return (None, "") if split == "test" else (0, "good")
    facts = _yaml(metadata)
    if facts.get("anomalous") not in (0, 1):
        raise DataError(f"{metadata} has no field 'anomalous' of 0 or 1.")
    if not facts["anomalous"]:
        return 0, "good"
    kinds = [defect for defect in DEFECTS if facts.get(f"anomalous_{defect}")]
    return 1, "+".join(kinds) or "defect"


def _rendered_points(depth: Path, info: Path) -> FloatArray:
    # A count of 0 is the nearest point of the scene, not a missing one: all pixels are rendered.
    counts = one_channel(numbers_of(bytes_of(depth), str(depth)), str(depth))
    share = (counts.astype(np.float64) / _DEPTH_COUNTS).astype(np.float32)
    bounds: Any = _yaml(info).get("normalization")
    try:
        low, high = float(bounds["min"]), float(bounds["max"])
    except (TypeError, KeyError, ValueError) as cause:
        raise DataError(
            f"{info} lacks numbers under normalization: min and max; they give depth its scale."
        ) from cause
    if not 0 <= low <= high < np.inf:
        raise DataError(
            f"{info} has min {low} and max {high} under normalization; metres in front of the "
            "camera were expected, min not above max."
        )
    metres = share.astype(np.float64) * (high - low) + low
    height, width = metres.shape
    focal = FOCAL_PER_WIDTH * width
    camera = Intrinsics(focal, focal, (width - 1) / 2, (height - 1) / 2)
    return back_project(metres, camera)


def _yaml(path: Path) -> Mapping[str, Any]:
    import yaml  # not part of a station, which may read other layouts

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as cause:
        raise DataError(f"{path} cannot be read as YAML: {cause}") from cause
    if not isinstance(content, dict):
        raise DataError(f"{path} holds no 'name: value' lines.")
    return content

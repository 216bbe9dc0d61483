"""Reader of a folder with ``rgb/`` and ``xyz/`` but without splits or labels, for prediction."""

from __future__ import annotations

from pathlib import Path

from chiasm.detection.readers.checked_sample import load_sample
from chiasm.detection.readers.mvtec3d import paired_files
from chiasm.detection.readers.sensor_folders import refuse_unread
from chiasm.detection.readers.source import SampleRef
from chiasm.errors import DataError
from chiasm.files.images import RGB_SUFFIXES, XYZ_SUFFIXES, image_files
from chiasm.files.readers import reader
from chiasm.samples import Problem, RGBDSample


@reader("detection", order=1)
class PlainFolder:
    """Parts of unknown quality in ``rgb/`` and ``xyz/``; the two files of a part share a name.

    With only one of the two folders the parts are RGB-only or 3D-only. Files without a partner
    are left out and listed in ``problems``. ``unit_m`` is the length of the point maps' unit in
    metres. Raises ``DataError`` for a folder without a complete part.
    """

    layout = "a folder with rgb/ and xyz/ inside"

    def __init__(self, root: Path | str, *, unit_m: float | None = None) -> None:
        self.root = Path(root)
        self.unit_m = unit_m
        refuse_unread(self.root)
        rgb = image_files(self.root / "rgb", RGB_SUFFIXES)
        xyz = image_files(self.root / "xyz", XYZ_SUFFIXES)
        problems: list[Problem] = []
        if rgb and xyz:
            parts = list(paired_files(self.root, problems))
        else:
            parts = [{"rgb": path} for path in rgb.values()] or [
                {"xyz": path} for path in xyz.values()
            ]
        if not parts:
            raise DataError(
                f"{self.root} has no images in rgb/ and point maps in xyz/ that share a name. "
                f"{' '.join(map(str, problems[:3]))}"
            )
        self.problems = tuple(problems)
        self._refs = tuple(
            SampleRef(source=str(files.get("rgb") or files["xyz"]), files=files, group=self.name)
            for files in parts
        )

    @staticmethod
    def recognises(path: Path) -> bool:
        """Return whether a folder has ``rgb/`` or ``xyz/`` directly inside."""
        return (path / "rgb").is_dir() or (path / "xyz").is_dir()

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.root.resolve().name

    @property
    def refs(self) -> tuple[SampleRef, ...]:
        """All complete samples, ordered by file name."""
        return self._refs

    @property
    def lamps(self) -> tuple[int, ...]:
        """The layout names no lamp."""
        return ()

    def load(self, ref: SampleRef) -> RGBDSample:
        """Read one sample; raises ``DataError`` naming the file and its fault."""
        return load_sample(ref, unit_m=self.unit_m)

"""Reader of a folder with ``rgb/`` and ``xyz/`` but without splits or labels, for prediction."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from chiasm.detection.readers.checked_sample import load_sample
from chiasm.detection.readers.mvtec3d import paired_parts
from chiasm.detection.readers.sensor_folders import refuse_unread, unread_beside
from chiasm.detection.readers.source import Lamp, SampleRef
from chiasm.detection.sensors.pairing import Pairing, of_lamp
from chiasm.errors import DataError
from chiasm.files.images import RGB_SUFFIXES, XYZ_SUFFIXES, image_files
from chiasm.files.readers import reader
from chiasm.samples import RGBDSample


@reader("detection", order=1)
class PlainFolder:
    """Parts of unknown quality in ``rgb/`` and ``xyz/``; the two files of a part share a name.

    Names that differ are paired as ``pair_files`` does; ``lamp`` chooses among pictures of a part.
    With only one of the two folders the parts are RGB-only or 3D-only. Files without a partner are
    left out and listed in ``problems``. ``unit_m`` is the length of the point maps' unit in metres.
    Raises ``DataError`` for a folder without a complete part.
    """

    layout = "a folder with rgb/ and xyz/ inside"

    def __init__(
        self, root: Path | str, lamp: Lamp | None = None, *, unit_m: float | None = None
    ) -> None:
        self.root = Path(root)
        self.unit_m = unit_m
        refuse_unread(self.root)
        rgb = image_files(self.root / "rgb", RGB_SUFFIXES)
        xyz = image_files(self.root / "xyz", XYZ_SUFFIXES)
        found = Pairing()
        if rgb and xyz:
            parts = list(paired_parts(self.root, found))
        else:
            parts = [SampleRef(str(path), {"rgb": path}) for path in rgb.values()] or [
                SampleRef(str(path), {"xyz": path}) for path in xyz.values()
            ]
        refs, self.lamps = of_lamp(parts, lamp, found.remarks, str(self.root), self.layout)
        if not parts:
            raise DataError(
                f"{self.root} has no images in rgb/ and point maps in xyz/ that share a name. "
                f"{' '.join(map(str, found.problems[:3]))}"
            )
        read = [path for ref in parts for path in ref.files.values()]
        found.remarks += unread_beside(self.root, read, ("rgb", "xyz"))
        self.problems, self.remarks = tuple(found.problems), tuple(found.remarks)
        self._refs = tuple(replace(ref, group=self.name) for ref in refs)

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

    def load(self, ref: SampleRef) -> RGBDSample:
        """Read one sample; raises ``DataError`` naming the file and its fault."""
        return load_sample(ref, unit_m=self.unit_m)

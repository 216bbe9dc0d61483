"""Which files belong together, from their names alone; the operator's page does it likewise."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import PurePath

from chiasm.detection.sensors.point_clouds import CLOUD_SUFFIXES
from chiasm.files.images import RGB_SUFFIXES, XYZ_SUFFIXES

_MARKS = {
    **dict.fromkeys(("rgb", "colour", "color", "image", "img"), "rgb"),
    **dict.fromkeys(("xyz", "points", "cloud"), "xyz"),
    **dict.fromkeys(("depth", "z"), "depth"),
    **dict.fromkeys(("prpd", "pattern"), "image"),
    **dict.fromkeys(("series", "pulses", "csv"), "series"),
}
_TIFF = frozenset({".tif", ".tiff"})
_PICTURES = RGB_SUFFIXES - _TIFF
_POINTS = XYZ_SUFFIXES | CLOUD_SUFFIXES
# Without .txt and .bin, which too many programs write for other ends.
RECORDED_SUFFIXES = frozenset({".csv", ".tsv", ".asc", ".dat", ".npy", ".npz", ".mat", ".xml"})
_SEPARATORS = "_. -"  # ends with what would be a range in a pattern
# Of programs that write under another name first.
_TEMPORARY = frozenset(
    {"tmp", "temp", "part", "partial", "crdownload", "download", "filepart", "swp", "half", "lock"}
)
_OF_SYSTEMS = frozenset({"thumbs.db", "desktop.ini"})


@dataclass(frozen=True, slots=True)
class Needs:
    """What a model needs of a part or a recording.

    Attributes:
        roles: that are read: ``rgb``, ``xyz`` and ``depth`` of parts, ``image`` and ``series`` of
            recordings.
        groups: sets of roles; of each at least one file is needed.
        shape_is_seen: whether the model looks at 3D points, so that a TIFF holds these.
        one_is_enough: whether a single group is judged where the others do not arrive.
    """

    roles: frozenset[str]
    groups: tuple[frozenset[str], ...]
    shape_is_seen: bool = True
    one_is_enough: bool = False

    @classmethod
    def of(cls, wing: str, modalities: Collection[str]) -> Needs:
        """Return what a model of a wing with these modalities needs."""
        if wing == "classifier":
            roles = frozenset(modalities)
            return cls(roles, tuple(frozenset({r}) for r in sorted(roles)), one_is_enough=True)
        groups: list[frozenset[str]] = []
        if "rgb" in modalities:
            groups.append(frozenset({"rgb"}))
        if "geometry" in modalities:
            groups.append(frozenset({"xyz", "depth"}))
        return cls(frozenset().union(*groups), tuple(groups), "geometry" in modalities)

    def missing(self, roles: Collection[str]) -> tuple[str, ...]:
        """Return what is missing beside these roles, in words."""
        words = {"rgb": "a colour picture", "image": "a pattern", "series": "a series"}
        lacking = [group for group in self.groups if not group & set(roles)]
        return tuple(words.get(min(group), "a 3D file") for group in lacking)


def is_temporary(name: str) -> bool:
    """Tell whether a name is one under which programs write before they rename.

    Example:
        >>> is_temporary("a.png.part"), is_temporary(".a.png"), is_temporary("a.png")
        (True, True, False)
    """
    lower = name.lower()
    return (
        lower[0] in ".~"
        or lower[-1] == "~"
        or lower in _OF_SYSTEMS
        or any(end in _TEMPORARY for end in lower.split(".")[1:])
    )


def role_of(path: PurePath, needs: Needs) -> str:
    """Return what a file is to a model; "" where the model does not read it.

    Args:
        path: relative to the folder that is watched.
        needs: of the model.

    Example:
        >>> needs = Needs.of("detector", ("rgb", "geometry"))
        >>> [role_of(PurePath(p), needs) for p in ("7.png", "xyz/7.tiff", "7_depth.png", "7.txt")]
        ['rgb', 'xyz', 'depth', '']
    """
    end = path.suffix.lower()
    words = [*_words(path.stem), *_words(path.parent.name)]
    marked = next((_MARKS[word] for word in words if word in _MARKS), "")
    role = ""
    if "image" in needs.roles or "series" in needs.roles:
        if end in RECORDED_SUFFIXES:
            role = "series"
        elif end in RGB_SUFFIXES:
            role = "image"
    elif end in _TIFF:
        role = marked if marked in ("rgb", "depth", "xyz") else "xyz"
        role = "rgb" if not needs.shape_is_seen and not marked else role
    elif end in _PICTURES:
        role = "depth" if marked == "depth" and end == ".png" else "rgb"
    elif end in _POINTS:
        role = "depth" if marked == "depth" else "xyz"
    return role if role in needs.roles else ""


def part_name(path: PurePath) -> str:
    """Return what the files of one part have in common: the path without words for a sensor.

    Example:
        >>> [part_name(PurePath(p)) for p in ("rgb/7.png", "7_xyz.tiff", "b/7.png", "8/rgb.png")]
        ['7', '7', 'b/7', '8']
    """
    folders = [step for step in path.parent.parts if step.lower() not in _MARKS]
    pieces = re.split(rf"([{_SEPARATORS}]+)", path.stem)
    kept = [piece for piece in pieces if piece.lower() not in _MARKS]
    bare = path.stem
    if len(kept) < len(pieces):
        bare = re.sub(rf"([{_SEPARATORS}])[{_SEPARATORS}]+", r"\1", "".join(kept))
        bare = bare.strip(_SEPARATORS)
    return "/".join([*folders, bare] if bare else folders) or "part"


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[\W_]+", text.lower()) if word]

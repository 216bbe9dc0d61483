"""Which files and rows are of one part: names that differ, times in names, and several lamps.

Files are never paired by their order alone: one that is missing would shift all that follow.
"""

from __future__ import annotations

import calendar
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from chiasm.detection.readers.source import Lamp, SampleRef
from chiasm.errors import DataError
from chiasm.files.content_hash import content_hash
from chiasm.files.words import COLOUR_WORDS, POINT_WORDS, words_of
from chiasm.samples import FloatArray, Problem

_ROLE_WORDS = COLOUR_WORDS | POINT_WORDS
_TOKEN = re.compile(r"[A-Za-z]+|\d+")
# Seconds since 1970, also in thousandths, millionths and billionths; and dates with times.
_SECONDS = re.compile(r"(?<!\d)(\d{9,10})[._](\d{3,9})(?!\d)")
_COUNTS = {10: 1.0, 13: 1e-3, 16: 1e-6, 19: 1e-9}
_DATE = re.compile(
    r"(?<!\d)((?:19|20)\d\d)[-_.]?(\d\d)[-_.]?(\d\d)[-_.T ]?(\d\d)[-_.:h]?(\d\d)[-_.:m]?(\d\d)"
    r"(?:[-_.,]?(\d{1,9}))?(?!\d)"
)
Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two files of one part, and the number of the lamp where the part was seen under several."""

    colour: Path
    points: Path
    lamp: int | None = None


@dataclass
class Pairing:
    """The result of ``pair_files``.

    Attributes:
        pairs: in the order of the colour files' names.
        problems: one for each file without a partner.
        remarks: how names that differ were paired, a sentence each.
    """

    pairs: list[Pair] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def pair_files(
    colours: Sequence[Path],
    points: Sequence[Path],
    *,
    noun: str = "3D file",
    folders: tuple[Path, Path] | None = None,
) -> Pairing:
    """Pair colour files and 3D files.

    Files with the same stem belong together. What is left is paired by the names without words such
    as ``color`` and ``depth`` and without what all names of a side share, where that is unique; by
    a lamp's number behind the name of the 3D file (``000_0.png``, ``000_1.png``, ``000.tiff``); or,
    if no stem is shared, by the times in the names: each to the nearest, within half a period.

    Args:
        colours, points: the files.
        noun: of a file of ``points`` in messages.
        folders: of the colours and of the points, for messages; None takes those of the files.
    """
    result = Pairing()
    by_stem = {path.stem: path for path in points}
    result.pairs = [Pair(path, by_stem[path.stem]) for path in colours if path.stem in by_stem]
    left = _left(colours, points, result.pairs)
    for way in (_by_time, _by_name, _by_lamp):
        if all(left) and (way is not _by_time or not result.pairs):
            found, remark = way(*left)
            result.pairs += found
            result.remarks += [remark] if found else []
            left = _left(colours, points, result.pairs)
    result.pairs.sort(key=lambda pair: (pair.colour.name, pair.points.name))
    for side, paths in enumerate(left):
        there, usual = ((points, ".tiff"), (colours, ".png"))[side]
        for path in paths:
            folder = folders[1 - side] if folders else (there[0] if there else path).parent
            partner = folder / f"{path.stem}{there[0].suffix if there else usual}"
            sentence = (
                f"{path} has no partner {partner}; add it or remove the {('image', noun)[side]}."
            )
            result.problems.append(Problem(str(path), sentence, left_out=True))
    return result


def with_copies_joined(pairs: Sequence[Pair]) -> list[Pair]:
    """Take 3D files of equal content whose names differ by a last number for one, under lamps.

    Only neighbours such as ``000_0.tiff`` and ``000_1.tiff`` of equal size are read, and all of
    them only if the first are equal.
    """
    families: dict[Key, list[Pair]] = defaultdict(list)
    for pair in pairs:
        key = _key([pair.points.stem])
        if pair.lamp is None and len(key) > 1 and key[-1].isdigit():
            families[key[:-1]].append(pair)
    joined: dict[Path, Pair] = {}
    for family in families.values():
        copies = _copies(family)
        if not copies and not joined:
            break  # as with other data, the last number counts the parts
        for pair in copies:
            number = int(_key([pair.points.stem])[-1])
            joined[pair.colour] = Pair(pair.colour, copies[0].points, number)
    return [joined.get(pair.colour, pair) for pair in pairs]


def _copies(family: list[Pair]) -> list[Pair]:
    """Return the pairs whose 3D files equal the first one's, if there are several."""
    first = family[0].points
    size = first.stat().st_size
    alike = [pair for pair in family if pair.points.stat().st_size == size]
    if len(alike) < 2:
        return []
    content = content_hash([first])
    same = [pair for pair in alike if content_hash([pair.points]) == content]
    return same if len(same) > 1 else []


def sides_of(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Divide the files of one folder by words such as ``color`` and ``depth`` in their names.

    Returns colours and 3D files; two empty lists where the names have no such words.
    """
    colours, points = [], []
    for path in files:
        words = words_of(path.stem)
        if words & POINT_WORDS:
            points.append(path)
        elif words & COLOUR_WORDS:
            colours.append(path)
    return (colours, points) if colours and points else ([], [])


def _left(
    colours: Sequence[Path], points: Sequence[Path], pairs: Sequence[Pair]
) -> tuple[list[Path], list[Path]]:
    paired = {path for pair in pairs for path in (pair.colour, pair.points)}
    return [p for p in colours if p not in paired], [p for p in points if p not in paired]


def _by_name(colours: list[Path], points: list[Path]) -> tuple[list[Pair], str]:
    for keys_of in (_words_and_numbers, _what_varies):
        one, other = _unique(colours, keys_of), _unique(points, keys_of)
        # Names such as rgb.png and depth.png share nothing, but there is no other partner.
        sole = len(colours) == len(points) == 1
        pairs = [
            Pair(path, other[key]) for key, path in one.items() if (key or sole) and key in other
        ]
        if pairs:
            return pairs, (
                f"{len(pairs)} pairs have names that differ, and were paired by what their names "
                f"share, such as {pairs[0].colour.name} with {pairs[0].points.name}."
            )
    return [], ""


def _by_lamp(colours: list[Path], points: list[Path]) -> tuple[list[Pair], str]:
    """Pair several images with a 3D file whose name they continue by a number."""
    for keys_of in (_words_and_numbers, _what_varies):
        files = _unique(points, keys_of)
        keys = dict(zip(colours, keys_of(colours)))
        pairs = [
            Pair(path, files[key[:-1]], int(key[-1]))
            for path, key in keys.items()
            if len(key) > 1 and key[-1].isdigit() and key[:-1] in files
        ]
        seen = Counter((pair.points, pair.lamp) for pair in pairs)
        if pairs and len(pairs) == len(colours) and max(seen.values()) == 1:
            several = Counter(pair.points for pair in pairs)
            if max(several.values()) > 1:
                first = pairs[0]
                return pairs, (
                    f"{len(pairs)} images belong to {len(several)} 3D files and are taken for "
                    f"pictures under several lamps, such as {first.colour.name} with "
                    f"{first.points.name} (lamp {first.lamp})."
                )
    return [], ""


def _by_time(colours: list[Path], points: list[Path]) -> tuple[list[Pair], str]:
    one, other = _times(colours), _times(points)
    if one is None or other is None or min(len(one), len(other)) < 2:
        return [], ""
    order, there = np.argsort(one, kind="stable"), np.argsort(other, kind="stable")
    one, other = one[order], other[there]
    periods = [float(np.median(np.diff(times))) for times in (one, other)]
    if min(periods) <= 0:
        return [], ""
    nearest, back = _nearest(one, other), _nearest(other, one)
    apart = np.abs(one - other[nearest])
    mutual = (back[nearest] == np.arange(len(one))) & (apart <= min(periods) / 2)
    pairs = [
        Pair(colours[order[i]], points[there[nearest[i]]]) for i in np.flatnonzero(mutual).tolist()
    ]
    farthest = float(apart[mutual].max()) if pairs else 0.0
    return pairs, (
        f"{len(pairs)} pairs were made by the times in the names, {farthest * 1000:.3g} ms apart "
        f"at most; half a period is {min(periods) * 500:.3g} ms."
    )


def _nearest(times: FloatArray, others: FloatArray) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return for each of the sorted times the position of the nearest of the other sorted ones."""
    right = np.clip(np.searchsorted(others, times), 1, len(others) - 1)
    nearer = times - others[right - 1] <= others[right] - times
    return np.asarray(right - nearer, np.int64)


def _times(paths: list[Path]) -> FloatArray | None:
    """Return the seconds that names say, float64; None if one says none."""
    times = [seconds_in_name(path.stem) for path in paths]
    if any(time is None for time in times):
        return None
    return np.array(times, np.float64)


def seconds_in_name(stem: str) -> float | None:
    """Return the time in a file's name in seconds since 1970, or None.

    Example:
        >>> seconds_in_name("1305031102.175304"), seconds_in_name("cam0_20231130_105501_250")
        (1305031102.175304, 1701341701.25)
    """
    if match := _SECONDS.search(stem):
        return float(f"{match[1]}.{match[2]}")
    if match := _DATE.search(stem):
        year, month, day, hour, minute, second = map(int, match.groups()[:6])
        if 1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 61:
            whole = calendar.timegm((year, month, day, hour, minute, second))
            return whole + (float(f"0.{match[7]}") if match[7] else 0.0)
    for token in _TOKEN.findall(stem):
        if token.isdigit() and len(token) in _COUNTS:
            return int(token) * _COUNTS[len(token)]
    return None


def _unique(
    paths: Sequence[Path], keys_of: Callable[[Sequence[Path]], list[Key]]
) -> dict[Key, Path]:
    """Return files by their key, without those that share one."""
    keys = keys_of(paths)
    count = Counter(keys)
    return {key: path for key, path in zip(keys, paths) if count[key] == 1}


def _words_and_numbers(paths: Sequence[Path]) -> list[Key]:
    """Return of each name the words and numbers, without those that name a sensor."""
    return [_key([path.stem]) for path in paths]


def _what_varies(paths: Sequence[Path]) -> list[Key]:
    """Return of each name what is left without the sections with letters that all names share."""
    sections = [re.split(r"[^A-Za-z0-9]+", path.stem) for path in paths]
    shared = set.intersection(*map(set, sections)) if len(sections) > 1 else set()
    shared = {section for section in shared if not section.isdigit()}
    keys = [_key([s for s in name if s not in shared]) for name in sections]
    words = set.intersection(*map(set, keys)) if len(keys) > 1 else set()
    return [tuple(t for t in key if t.isdigit() or t not in words) for key in keys]


def _key(sections: Sequence[str]) -> Key:
    return tuple(
        token.lstrip("0") or "0" if token.isdigit() else token.lower()
        for section in sections
        for token in _TOKEN.findall(section)
        if token.lower() not in _ROLE_WORDS
    )


def of_lamp(
    refs: Sequence[SampleRef], lamp: Lamp | None, remarks: list[str], where: str, layout: str
) -> tuple[list[SampleRef], tuple[int, ...]]:
    """Return the parts of a folder under a lamp, and the numbers of all lamps.

    Args:
        refs, lamp, remarks, where: as ``read_once``; a number takes its pictures alone.
        layout: of the folder, in words.

    Raises:
        DataError: the folder names no lamp, or not this one.
    """
    lamps = tuple(sorted({ref.lamp for ref in refs if ref.lamp is not None}))
    if lamp is None or lamp == "all":
        return read_once(refs, lamp, remarks, where), lamps
    if not lamps:
        raise DataError(f"{where} is {layout}, which has no lamp to choose; leave out lamp={lamp}.")
    if lamp not in lamps:
        raise DataError(
            f"{where} has no picture under lamp {lamp}; the lamps found are "
            f"{', '.join(map(str, lamps))}."
        )
    return [ref for ref in refs if ref.lamp == lamp], lamps


def read_once(
    refs: Sequence[SampleRef],
    lamp: Lamp | None,
    remarks: list[str],
    where: str,
) -> list[SampleRef]:
    """Keep of each part that was seen under several lamps one picture; test parts keep all of them.

    Pictures show one part if they have the same 3D file; without 3D, if a group has each lamp once.

    Args:
        refs: all pictures.
        lamp: None takes the lamp that most parts have, and the lowest of several; ``"all"`` draws
            one for each part of training and validation, by its name, as 3D-ADNAS does, and takes
            test parts under each of theirs.
        remarks: gets a sentence where there are such parts.
        where: the data's name in messages.

    Raises:
        DataError: parts share a 3D file and are not told apart by lamps.
    """
    parts: dict[Hashable, list[SampleRef]] = defaultdict(list)
    for ref, key in zip(refs, _part_keys(refs, where)):
        parts[key].append(ref)
    several = [part for part in parts.values() if len(part) > 1]
    if not several:
        return list(refs)
    count = Counter(ref.lamp for part in several for ref in part if ref.lamp is not None)
    usual = min(count, key=lambda number: (-count[number], number))
    kept: set[str] = set()
    for part in parts.values():
        if lamp == "all" and part[0].split in ("test", ""):
            kept |= {ref.source for ref in part}
        elif lamp == "all":
            kept.add(part[_draw(part[0], len(part))].source)
        else:
            kept.add(next((r for r in part if r.lamp == usual), part[0]).source)
    read = "under one lamp each, drawn by its name" if lamp == "all" else f"under lamp {usual}"
    remarks.append(
        f"{where}: {sum(map(len, several))} pictures show {len(several)} parts under several "
        f"lamps. Each part counts once and is read {read}; lamp=NUMBER chooses one, lamp=all draws "
        "one for each training part."
    )
    return [ref for ref in refs if ref.source in kept]


def _part_keys(refs: Sequence[SampleRef], where: str) -> list[Hashable]:
    """Return what tells the part that each picture shows."""
    by_file: dict[Path, list[SampleRef]] = defaultdict(list)
    by_group: dict[str, list[SampleRef]] = defaultdict(list)
    for ref in refs:
        if (file := _points_file(ref)) is not None:
            by_file[file].append(ref)
        elif ref.group:
            by_group[ref.group].append(ref)
    for file, same in by_file.items():
        lamps = Counter(ref.lamp for ref in same)
        if len(same) > 1 and (None in lamps or max(lamps.values()) > 1):
            raise DataError(
                f"{where}: {same[0].source} and {same[1].source} have the same 3D points, {file}, "
                "so that they show one part. Give each its number in a column lamp where lamps "
                "differ, else keep one of them."
            )
    named = [Counter(ref.lamp for ref in same) for same in by_group.values()]
    # One group could as well be a session of different parts.
    groups_are_parts = len(named) > 1 and all(
        lamps == named[0] and len(lamps) > 1 and None not in lamps and max(lamps.values()) == 1
        for lamps in named
    )
    return [
        file
        if (file := _points_file(ref)) is not None
        else ("group", ref.group)
        if groups_are_parts and ref.group
        else ref.source
        for ref in refs
    ]


def _points_file(ref: SampleRef) -> Path | None:
    return ref.files.get("xyz") or ref.files.get("depth")


def _draw(ref: SampleRef, count: int) -> int:
    name = (_points_file(ref) or Path(ref.group)).name
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    return int(np.random.default_rng(seed).integers(count))

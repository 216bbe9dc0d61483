"""Training normals, calibration normals and test: three lists that never share a file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from chiasm.detection.readers.source import SampleRef, SampleSource
from chiasm.errors import ConfigurationError, SplitError
from chiasm.files.content_hash import content_hash

# What the sensors recorded; masks and metadata of good parts are legitimately alike.
_SENSOR_ROLES = ("rgb", "xyz", "depth")


@dataclass(frozen=True, slots=True)
class Split:
    """Who is used for what.

    Attributes:
        train: good parts that the model learns from.
        calibration: good parts, never trained on, that give scores their meaning.
        test: good and defective parts, for the final figures only.
    """

    train: tuple[SampleRef, ...]
    calibration: tuple[SampleRef, ...]
    test: tuple[SampleRef, ...]


def make_splits(
    source: SampleSource,
    *,
    shots: int | None = None,
    calibration_share: float = 0.2,
    seed: int = 0,
) -> Split:
    """Divide a source into training normals, calibration normals and test.

    Calibration normals are the source's validation split where it has good parts there, else a
    seeded share of the training normals (at least one), whole groups where there are several.
    Only parts labelled good are trained or calibrated on. ``shots`` keeps that many training
    normals; with one seed, fewer shots are a subset of more. Raises ``SplitError`` where training
    or calibration would be empty, or ``shots`` asks for more than there are, and
    ``ConfigurationError`` for settings out of range. Contents are compared by ``check_disjoint``.
    """
    if not 0 < calibration_share < 1:
        raise ConfigurationError(
            f"calibration_share is {calibration_share}; it must lie between 0 and 1, both excluded."
        )
    if shots is not None and shots < 1:
        raise ConfigurationError(f"shots is {shots}; it must be 1 or more, or None for all.")
    train = _normals(source, "train")
    calibration = _normals(source, "validation")
    if not train:
        raise SplitError(_no_training(source))
    rng = np.random.default_rng(seed)
    if not calibration:
        if len(train) < 2:
            raise SplitError(
                f"{source.name} has one good training part and no validation split; at least two "
                "are needed, one to train on and one to calibrate with."
            )
        train, calibration = _set_aside(train, calibration_share, rng)
    if shots is not None:
        if shots > len(train):
            raise SplitError(
                f"{shots} shots were asked for, but {source.name} has {len(train)} training "
                "normals after calibration parts are set aside; ask for fewer."
            )
        kept = sorted(rng.permutation(len(train))[:shots].tolist())
        train = [train[i] for i in kept]
    test = tuple(ref for ref in source.refs if ref.split == "test")
    return Split(train=tuple(train), calibration=tuple(calibration), test=test)


def check_disjoint(split: Split) -> None:
    """Refuse parts that stand in two of the three lists, by path or by content.

    Two parts are the same where an RGB, point or depth file has the same path or the same bytes.
    Only files of equal size are read. Raises ``SplitError`` naming both files.
    """
    duplicates = shared_files(
        {"training": split.train, "calibration": split.calibration, "test": split.test}
    )
    if duplicates:
        first_list, first, second_list, second = duplicates[0]
        how = "is" if first == second else f"has the same content as {second},"
        more = f" {len(duplicates) - 1} more such pairs were found." if len(duplicates) > 1 else ""
        raise SplitError(
            f"{first} in the {first_list} list {how} also in the {second_list} list. A figure "
            f"measured on parts the model has seen is worthless: keep one of the two.{more}"
        )


def shared_files(lists: Mapping[str, Sequence[SampleRef]]) -> list[tuple[str, str, str, str]]:
    """Find files that stand in two lists: (list, path, other list, path there), in stable order.

    Compares RGB, point and depth files by path, then those of equal size by content. Raises
    ``DataError`` for a file that cannot be opened; files that do not exist are passed over.
    """
    by_size: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for name, refs in lists.items():
        files = (ref.files[role] for ref in refs for role in _SENSOR_ROLES if role in ref.files)
        for file in dict.fromkeys(file.resolve() for file in files):
            if file.is_file():
                by_size[file.stat().st_size].append((name, str(file)))
    found: list[tuple[str, str, str, str]] = []
    for entries in by_size.values():
        if len({name for name, _ in entries}) < 2:
            continue
        seen: dict[str, tuple[str, str]] = {}
        for name, path in entries:
            first = seen.setdefault(content_hash([path]), (name, path))
            if first[0] != name:
                found.append((*first, name, path))
    return found


def _normals(source: SampleSource, split: str) -> list[SampleRef]:
    return [ref for ref in source.refs if ref.split == split and ref.label == 0]


def set_aside(groups: Sequence[str], share: float, rng: np.random.Generator) -> set[int]:
    """Numbers of about a share of the parts, at least one, never dividing one of several groups.

    Groups are drawn until the share is reached; one that would overshoot it by more than is
    missing without it is passed over. A part without a group's name is a group of its own. With
    one group for all, parts are drawn.

    Args:
        groups: of each part.
        share: of the parts.
        rng: of the draw.
    """
    wanted = max(1, round(share * len(groups)))
    members = members_by_group(groups)
    if len(members) == 1:
        return set(rng.permutation(len(groups))[: min(wanted, len(groups) - 1)].tolist())
    aside: set[int] = set()
    for number in rng.permutation(len(members)).tolist():
        after = len(aside) + len(members[number])
        if len(aside) < wanted and after - wanted <= wanted - len(aside):
            aside |= members[number]
    # Where every group alone is far too large, the smallest is nearest to what was asked for.
    return aside or min(members, key=len)


def members_by_group(groups: Sequence[str]) -> list[set[int]]:
    """Numbers of the parts of each group; those without a name alone, where others have one."""
    several = len(set(groups)) > 1
    found: dict[str | int, set[int]] = defaultdict(set)
    for number, group in enumerate(groups):
        found[number if several and not group else group].add(number)
    return [found[name] for name in sorted(found, key=str)]


def _set_aside(
    train: list[SampleRef], share: float, rng: np.random.Generator
) -> tuple[list[SampleRef], list[SampleRef]]:
    """Move about a share of the parts into a second list."""
    aside = set_aside([ref.group for ref in train], share, rng)
    kept = [ref for i, ref in enumerate(train) if i not in aside]
    return kept, [ref for i, ref in enumerate(train) if i in aside]


def _no_training(source: SampleSource) -> str:
    total = sum(ref.split == "train" for ref in source.refs)
    if total:
        return (
            f"{source.name} has {total} training parts but none of them is labelled good "
            "(label 0); only normal parts are learnt from."
        )
    return (
        f"{source.name} has no training parts among its {len(source.refs)} samples; put good "
        "parts into the train split (train/good, or split=train in a manifest)."
    )

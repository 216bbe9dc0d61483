"""Split a source into training normals, calibration normals and test, without shared files."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chiasm.detection.readers.source import SampleRef, SampleSource
from chiasm.errors import ConfigurationError, DataError, SplitError
from chiasm.files.content_hash import content_hash

# Files of the sensors; masks and metadata of good parts may be equal.
_SENSOR_ROLES = ("rgb", "xyz", "depth")
_PIECES, _PIECE = 16, 512  # of a file, that are compared before all of it: number and bytes


@dataclass(frozen=True, slots=True)
class Split:
    """Three disjoint lists of parts.

    Attributes:
        train: good parts for training.
        calibration: other good parts, which set the alarm threshold and the p-values; the same ones
            in a cross calibration.
        test: good and defective parts, for the final figures only.
    """

    train: tuple[SampleRef, ...]
    calibration: tuple[SampleRef, ...]
    test: tuple[SampleRef, ...]

    @property
    def crossed(self) -> bool:
        """Whether all normals both train and calibrate."""
        return self.train == self.calibration


def make_splits(
    source: SampleSource,
    *,
    shots: int | None = None,
    calibration_share: float = 0.2,
    seed: int = 0,
    cross: bool = False,
    aside: int | None = None,
) -> Split:
    """Divide a source into training normals, calibration normals and test.

    Calibration normals are the good parts of the source's validation split. Without such parts
    they are a seeded share of the training normals, at least one, and whole groups if there are
    several. Only parts labelled good are used for training and calibration. ``shots`` limits the
    number of training normals; with one seed, fewer shots are a subset of more. Raises
    ``SplitError`` if training or calibration would be empty or ``shots`` exceeds the training
    normals, and ``ConfigurationError`` for settings out of range. ``check_disjoint`` compares the
    files' content. With ``cross``, all good parts of both splits train and calibrate. ``aside``
    training normals, or somewhat more so that groups stay whole, calibrate beside those of the
    validation split; a share of them where fewer than two others were left.
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
        raise SplitError(_no_training_sentence(source), see="too-few-parts")
    rng = np.random.default_rng(seed)
    if cross:
        train, calibration = [*train, *calibration], []
    elif not calibration or aside is not None:
        if len(train) < 2:
            raise SplitError(
                f"{source.name} has one good training part and no validation split; at least two "
                "are needed, one to train on and one to calibrate with.",
                see="too-few-parts",
            )
        groups = [ref.group for ref in train]
        drawn = set() if aside is None else set_aside_at_least(groups, aside, rng)
        if not drawn or len(train) - len(drawn) < 2:
            drawn = set_aside(groups, calibration_share, rng)
        calibration += [ref for i, ref in enumerate(train) if i in drawn]
        train = [ref for i, ref in enumerate(train) if i not in drawn]
    if shots is not None:
        if shots > len(train):
            raise SplitError(
                f"{shots} shots were asked for, but {source.name} has {len(train)} training "
                "normals after calibration parts are set aside; ask for fewer.",
                see="too-few-parts",
            )
        indices = sorted(rng.permutation(len(train))[:shots].tolist())
        train = [train[i] for i in indices]
    test = tuple(ref for ref in source.refs if ref.split == "test")
    return Split(train=tuple(train), calibration=tuple(train if cross else calibration), test=test)


def check_disjoint(split: Split) -> None:
    """Refuse parts that are in two of the three lists.

    Two parts are equal if an RGB, point or depth file has the same path or the same bytes. Only
    files of equal size are read. Raises ``SplitError`` naming both files.
    """
    lists = {"training": split.train, "calibration": split.calibration, "test": split.test}
    if split.crossed:
        del lists["calibration"]
    duplicates = shared_files(lists, _hashes_of_readable)
    if duplicates:
        first_list, first, second_list, second = duplicates[0]
        relation = "is" if first == second else f"has the same content as {second},"
        more = f" {len(duplicates) - 1} more such pairs were found." if len(duplicates) > 1 else ""
        raise SplitError(
            f"{first} in the {first_list} list {relation} also in the {second_list} list. A figure "
            f"measured on parts the model has seen is worthless: keep one of the two.{more}",
            see="overlap",
        )


def _hashes(paths: Sequence[str]) -> Iterator[str]:
    return (content_hash([path]) for path in paths)


def _hashes_of_readable(paths: Sequence[str]) -> Iterator[str | None]:
    """Yield hashes; None of a file that cannot be opened, which is left out where it is read."""
    for path in paths:
        try:
            yield content_hash([path])
        except DataError:
            yield None


def shared_files(
    lists: Mapping[str, Sequence[SampleRef]],
    hashes: Callable[[Sequence[str]], Iterable[str | None]] = _hashes,
) -> list[tuple[str, str, str, str]]:
    """Find files that are in two lists: (list, path, other list, path there), in stable order.

    Compares RGB, point and depth files by path, then those of equal size by content. Skips files
    that do not exist or are empty. The time grows with the number of files, not with that of pairs.

    Args:
        lists: of parts, by name.
        hashes: of the content of files, in their order; None for one that is not compared. The
            default raises ``DataError`` for a file that cannot be opened.
    """
    by_size: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for name, refs in lists.items():
        files = (ref.files[role] for ref in refs for role in _SENSOR_ROLES if role in ref.files)
        for file in dict.fromkeys(file.resolve() for file in files):
            if file.is_file() and (length := file.stat().st_size):  # empty ones hold no part
                by_size[length].append((name, str(file)))
    # Files whose size is found in one list alone are not read, and of the others, which are many
    # where a sensor writes without compression, those whose samples are found in one list alone.
    sizes = [entries for entries in by_size.values() if len({name for name, _ in entries}) > 1]
    by_samples: dict[tuple[int, bytes | None], list[tuple[str, str]]] = defaultdict(list)
    for size, entries in enumerate(sizes):
        for entry in entries:
            by_samples[size, _samples(entry[1])].append(entry)
    groups = [
        entries
        for (_, samples), entries in by_samples.items()
        # What cannot be opened is handed on, to whom hashes it and says so.
        if samples is None or len({name for name, _ in entries}) > 1
    ]
    candidates = [(size, *entry) for size, entries in enumerate(groups) for entry in entries]
    first_by_hash: dict[tuple[int, str], tuple[str, str]] = {}
    duplicates: list[tuple[str, str, str, str]] = []
    found = hashes([path for _, _, path in candidates])
    for (size, name, path), content in zip(candidates, found, strict=True):
        if content is None:
            continue
        first = first_by_hash.setdefault((size, content), (name, path))
        if first[0] != name:
            duplicates.append((*first, name, path))
    return duplicates


def _samples(path: str) -> bytes | None:
    """Return a hash of some bytes of a file, spread over it; None if it cannot be opened."""
    try:
        with Path(path).open("rb") as stream:
            length = os.fstat(stream.fileno()).st_size
            step = max(length // _PIECES, 1)
            pieces = []
            for start in range(0, length, step):
                stream.seek(start)
                pieces.append(stream.read(_PIECE))
    except OSError:
        return None
    return hashlib.blake2b(b"".join(pieces), digest_size=16).digest()


def _normals(source: SampleSource, split: str) -> list[SampleRef]:
    return [ref for ref in source.refs if ref.split == split and ref.label == 0]


def set_aside(groups: Sequence[str], share: float, rng: np.random.Generator) -> set[int]:
    """Draw about a share of the parts, at least one, without dividing one of several groups.

    Draws groups until the share is reached, and skips a group that would exceed the share by more
    than is missing without it. A part without a group's name forms a group alone. If all parts
    have one group, parts are drawn.

    Args:
        groups: name of each part's group.
        share: of the parts.
        rng: source of the draw.

    Returns:
        Indices of the drawn parts.
    """
    target = max(1, round(share * len(groups)))
    members = members_by_group(groups)
    if len(members) == 1:
        return set(rng.permutation(len(groups))[: min(target, len(groups) - 1)].tolist())
    drawn: set[int] = set()
    for number in rng.permutation(len(members)).tolist():
        after = len(drawn) + len(members[number])
        if len(drawn) < target and after - target <= target - len(drawn):
            drawn |= members[number]
    # If every group exceeds the share by far, the smallest comes nearest to it.
    return drawn or min(members, key=len)


def set_aside_at_least(groups: Sequence[str], count: int, rng: np.random.Generator) -> set[int]:
    """Draw at least ``count`` parts without dividing one of several groups, and no group more.

    Args:
        groups: name of each part's group, as in ``set_aside``.
        count: of the parts.
        rng: source of the draw.

    Returns:
        Indices of the drawn parts.
    """
    members = members_by_group(groups)
    if len(members) == 1:
        return set(rng.permutation(len(groups))[:count].tolist())
    drawn: set[int] = set()
    for number in rng.permutation(len(members)).tolist():
        if len(drawn) >= count:
            break
        drawn |= members[number]
    return drawn


def divide_into_folds(groups: Sequence[str], folds: int, *, seed: int) -> list[list[int]]:
    """Divide parts into folds of about one size, without dividing one of several groups.

    Args:
        groups: name of each part's group; a part without one is a group alone.
        folds: wanted; there are as many as groups where these are fewer.
        seed: of the draw.

    Returns:
        Indices of each fold's parts, rising.

    Raises:
        SplitError: there are fewer than two parts.
    """
    members = members_by_group(groups)
    if len(members) == 1:
        members = [{number} for number in range(len(groups))]
    if len(members) < 2:
        raise SplitError("A cross calibration needs at least two good parts.")
    order = np.random.default_rng(seed).permutation(len(members)).tolist()
    chosen: list[list[int]] = [[] for _ in range(min(folds, len(members)))]
    for number in sorted(order, key=lambda n: -len(members[n])):  # of one size: as drawn
        min(chosen, key=len).extend(members[number])
    return [sorted(fold) for fold in chosen]


@dataclass(frozen=True, slots=True)
class SearchParts:
    """Which training parts serve what in the search of a fusion, by index.

    Attributes:
        weights: the relaxed network's weights are trained on them.
        architecture: its architecture is trained on them.
        selection: the best epoch, the best finalist and the score rule are chosen on them.
        shared: what is not disjoint and why, as a sentence; empty where all three are.
    """

    weights: frozenset[int]
    architecture: frozenset[int]
    selection: frozenset[int]
    shared: str = ""


def divide_for_search(
    groups: Sequence[str], share: float, *, seed: int, selection_share: float | None = None
) -> SearchParts:
    """Divide training parts for weights, architecture and selection, by ``set_aside``.

    Selection gets its share of all parts, the architecture its share of the rest. Where the
    rest cannot be divided (one part, or one of several groups), the architecture shares it with the
    weights, never with the selection.

    Args:
        groups: name of each part's group.
        share: of the parts, for the architecture.
        seed: of the draws.
        selection_share: None is the architecture's; 0 leaves the selection without parts.
    """
    rng = np.random.default_rng(seed)
    if selection_share is None:
        selection_share = share
    selection = set_aside(groups, selection_share, rng) if selection_share else set()
    rest = [i for i in range(len(groups)) if i not in selection]
    names = [groups[i] for i in rest]
    one_group = len(set(groups)) > 1 and len(set(names)) == 1 and names[0] != ""
    if len(rest) < 2 or one_group:
        parts = "one training part is" if len(rest) == 1 else f"{len(rest)} parts of one group are"
        return SearchParts(
            frozenset(rest),
            frozenset(rest),
            frozenset(selection),
            f"Only {parts} left beside those of the selection: the search trains weights and "
            "architecture on the same.",
        )
    architecture = {rest[i] for i in set_aside(names, share, rng)}
    return SearchParts(
        frozenset(rest) - architecture, frozenset(architecture), frozenset(selection)
    )


SELECTION_SHARE = 0.2  # of the training parts, for data without a validation split


def divide_as_published(
    groups: Sequence[str], share: float, *, seed: int, shots: bool, validation: bool
) -> SearchParts:
    """Divide training parts for a search that is selected on the data set's validation split.

    Args:
        groups: name of each part's group.
        share: of the parts, for the architecture; the others are for the weights.
        seed: of the draws.
        shots: whether there are few parts by choice. Then no other normal is read, and selection
            shares the parts of the architecture, with other anomalies.
        validation: whether the data set has a validation split; without one, selection has
            ``SELECTION_SHARE`` of the parts.

    References:
        3D-ADNAS, supplement (few-shot: half and half); see docs/decisions for what is not said.
    """
    outside = shots or validation
    parts = divide_for_search(
        groups, share, seed=seed, selection_share=0.0 if outside else SELECTION_SHARE
    )
    if not shots:
        return parts
    sentence = (
        f"Of {len(groups)} parts, the search selects on the {len(parts.architecture)} of the "
        "architecture, with other anomalies."
    )
    return SearchParts(
        parts.weights, parts.architecture, parts.architecture, f"{sentence} {parts.shared}".strip()
    )


def has_validation(source: SampleSource) -> bool:
    """Whether a source has normals of its own for validation."""
    return bool(_normals(source, "validation"))


def owners_of(groups: Sequence[str]) -> list[int]:
    """Return for each part the first part of its group; the part itself in a single group."""
    members = members_by_group(groups)
    if len(members) == 1:
        return list(range(len(groups)))
    first = {index: min(indices) for indices in members for index in indices}
    return [first[index] for index in range(len(groups))]


def members_by_group(groups: Sequence[str]) -> list[set[int]]:
    """Return the indices of each group's parts; among several groups, unnamed parts are alone."""
    several = len(set(groups)) > 1
    members: dict[str | int, set[int]] = defaultdict(set)
    for number, group in enumerate(groups):
        members[number if several and not group else group].add(number)
    return [members[name] for name in sorted(members, key=str)]


def _no_training_sentence(source: SampleSource) -> str:
    total = sum(ref.split == "train" for ref in source.refs)
    if total:
        return (
            f"{source.name} has {total} training parts but none of them is labelled good "
            "(label 0); only good parts are used for training."
        )
    return (
        f"{source.name} has no training parts among its {len(source.refs)} samples; put good "
        "parts into the train split (train/good, or split=train in a manifest)."
    )

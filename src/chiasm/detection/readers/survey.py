"""Survey the normal parts once: what tells them from their background, and their crop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Literal, TypeVar

from chiasm.detection.preparation.background import BackgroundSurvey, differing, unequal
from chiasm.detection.preparation.prepare import (
    PreparationSettings,
    count_objects,
    crop_shares,
    estimate_crop_fraction,
    object_masks,
)
from chiasm.detection.readers.source import SampleRef, SampleSource
from chiasm.errors import ConfigurationError, DataError
from chiasm.files.audit_text import Finding, read
from chiasm.files.bit_depth import bit_depth

RemoveBackground = bool | Literal["auto"]
Measured = TypeVar("Measured")
Watch = Callable[[str, Sequence[SampleRef]], Iterable[SampleRef]]  # a stage and its parts
PARTS_MEASURED = 400  # parts, about, that a check of data measures
FRAMES_COMPARED = 1_000  # normals, at most, whose backgrounds are compared: 200 MB
OBJECTS_COUNTED = 20  # normals, about, whose objects are counted
CROPS_MEASURED = 60  # normals, at most, that the crop of parts with 3D points is estimated from


def unwatched(stage: str, refs: Sequence[SampleRef]) -> Iterable[SampleRef]:
    """Hand on the parts of a stage."""
    return refs


def told_by(refs: Sequence[SampleRef], remove_background: RemoveBackground) -> str:
    """Return what can tell parts from their background: ``points``, ``colours``, ``border`` or "".

    "" is nothing in common: with ``remove_background=True``, points tell some parts and the border
    tells the others.
    """
    having = [bool(ref.files.keys() & {"xyz", "depth"}) for ref in refs]
    if all(having):
        return "points"
    if remove_background == "auto":
        return "colours"
    return "" if any(having) else "border"


def survey(
    source: SampleSource,
    refs: Sequence[SampleRef],
    settings: PreparationSettings,
    *,
    remove_background: RemoveBackground,
    watch: Watch = unwatched,
) -> tuple[PreparationSettings, str]:
    """Decide from normal parts how all parts are prepared.

    Args:
        source: of the parts.
        refs: of the normal parts of the training.
        settings: of the preparation, but for what is decided here.
        remove_background: ``True`` by points, or else the border; ``"auto"`` by points, or else
            by the background that all normals have in common, if there is one.
        watch: hands on the parts of a stage, for a progress line.

    Returns:
        The settings with background rule and crop, and the decision as a sentence, with a warning
        where images of 16 bits use fewer.

    Raises:
        DataError: no part can be read, or none shows an object; one that cannot is passed over.
    """
    settings, sentence = _surveyed(source, refs, settings, remove_background, watch)
    depth = bit_depth([ref.files["rgb"] for ref in refs if "rgb" in ref.files])
    if depth is not None:
        sentence = (
            f"{sentence} Warning: {depth.in_words()}, and the images are read "
            f"{1 << 16 - depth.bits} times too dark. 'chiasm data convert FOLDER NEW' scales them."
        )
    return settings, sentence


def _surveyed(
    source: SampleSource,
    refs: Sequence[SampleRef],
    settings: PreparationSettings,
    remove_background: RemoveBackground,
    watch: Watch,
) -> tuple[PreparationSettings, str]:
    """Return what ``survey`` does, without a look at the bits."""
    if not remove_background:
        whole = replace(settings, remove_background=False)
        return _cropped(source, refs, whole, watch), "Whole frames are looked at, as was asked."
    rule = told_by(refs, remove_background)
    if rule == "colours":
        return _by_colours(source, refs, settings, watch)
    sentences = {
        "points": "Parts are told from their background by 3D points above the support plane.",
        "border": "Parts are told from their background by the colours of each frame's border.",
        "": "Parts are told from their background by 3D points, and those without by the border.",
    }
    settings = replace(settings, remove_background=True, told_by=rule or None)  # type: ignore[arg-type]
    if settings.objects != "largest" and not rule:
        raise _no_objects(settings, "by 3D points in some frames and by colours in others")
    several = _several(source, refs, settings) if rule else ""
    return _cropped(source, refs, settings, watch), f"{sentences[rule]}{several}"


def _no_objects(settings: PreparationSettings, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"objects={settings.objects} tells objects from the background that they lie on, which "
        f"these frames show {reason}. Leave it out; or set remove_background=true, which tells "
        "objects by the colours of each frame's border."
    )


def _several(source: SampleSource, refs: Sequence[SampleRef], settings: PreparationSettings) -> str:
    """Return a sentence where frames show several objects; "" where they show one each."""
    measured = refs[:: max(1, len(refs) // OBJECTS_COUNTED)]

    def count(ref: SampleRef) -> int:
        return count_objects(read(source.load, ref), settings)

    counts = [number for _, number in _passable(measured, count)]
    several = sum(count > 1 for count in counts)
    if not several:
        return ""
    seen = {
        "largest": "Only the largest is looked at: objects=split judges each as a part, "
        "objects=all looks at all together, and region=FILE limits where is looked.",
        "all": "All are looked at together (objects=all).",
        "split": "Each is a part (objects=split).",
    }[settings.objects]
    warning = "Warning: " if settings.objects == "largest" else ""
    return f" {warning}{several} of {len(counts)} frames show up to {max(counts)} objects. {seen}"


def split_objects(
    source: SampleSource,
    refs: Sequence[SampleRef],
    settings: PreparationSettings,
    watch: Watch = unwatched,
) -> tuple[SampleRef, ...]:
    """Return a reference to each object of frames that are split; the same ones of others.

    Objects of a frame form a group, so that none trains where another one is held out. A frame that
    cannot be read, or shows no object, is one part.
    """
    if settings.objects != "split":
        return tuple(refs)
    objects: list[SampleRef] = []
    for ref in watch("Counting objects", refs):
        if ref.part is not None:  # of a fold, whose parts are those of the run
            objects.append(ref)
            continue
        try:
            count = len(object_masks(read(source.load, ref), settings))
        except DataError:
            objects.append(ref)  # where it is prepared, it is told and left out
            continue
        objects += (
            replace(ref, source=f"{ref.source}#{number}", part=number, group=ref.source)
            for number in range(1, count + 1)
        )
    return tuple(objects)


def _cropped(
    source: SampleSource, refs: Sequence[SampleRef], settings: PreparationSettings, watch: Watch
) -> PreparationSettings:
    measured = refs[:: max(1, len(refs) // CROPS_MEASURED)]

    def crop_of(ref: SampleRef) -> float:
        return estimate_crop_fraction([read(source.load, ref)], settings)

    crops = [crop for _, crop in _passable(watch("Measuring the crop", measured), crop_of)]
    return replace(settings, crop_fraction=round(max(crops), 4))


def _passable(
    refs: Iterable[SampleRef], measure: Callable[[SampleRef], Measured]
) -> list[tuple[SampleRef, Measured]]:
    """Measure the parts that can be measured; whoever uses the others will say why not.

    Raises ``DataError`` of the first part where none can be.
    """
    measured = []
    first: DataError | None = None
    for ref in refs:
        try:
            measured.append((ref, measure(ref)))
        except DataError as error:
            first = first or error
    if first is not None and not measured:
        raise first
    return measured


def _by_colours(
    source: SampleSource, refs: Sequence[SampleRef], settings: PreparationSettings, watch: Watch
) -> tuple[PreparationSettings, str]:
    count = len(refs)
    if count > FRAMES_COMPARED:
        refs = [refs[i * count // FRAMES_COMPARED] for i in range(FRAMES_COMPARED)]
    of_all = f" ({len(refs)} of {count} normal parts were compared.)" if len(refs) < count else ""
    frames = BackgroundSurvey(several=settings.objects != "largest")
    watched = watch("Comparing backgrounds", refs)
    refs = [ref for ref, _ in _passable(watched, lambda ref: frames.add(read(source.load, ref)))]
    background, reason = frames.decide()
    if background is not None:
        told = replace(settings, remove_background=True, told_by="colours", background=background)
        crops, shares = [], {}
        for ref in watch("Measuring the crop", refs):
            sample = source.load(ref)
            mask = differing(sample, background)
            shares[ref.source] = float(mask.mean())
            if mask.any():
                crops += crop_shares(sample, told)
        reason = unequal(shares)
        if not reason:
            background = replace(background, shares=(min(shares.values()), max(shares.values())))
            told = replace(
                told, background=background, crop_fraction=min(round(max(crops), 4), 1.0)
            )
            several = _several(source, refs, told)
            return told, (
                "Parts are told from their background by its colour, which all normal parts have "
                f"in common.{of_all}{several}"
            )
    if settings.objects != "largest":
        raise _no_objects(settings, f"none of: {reason}")
    whole = replace(settings, remove_background=False, crop_fraction=1.0)
    return whole, f"Whole frames are looked at: {reason}{of_all}"


def survey_of_source(
    source: SampleSource, refs: Sequence[SampleRef]
) -> tuple[str, PreparationSettings | None, tuple[Finding, ...]]:
    """Decide how a training with default settings would prepare the parts of a source.

    Args:
        source: of the parts.
        refs: of parts that can be read. Normals of the training are surveyed; without any, all
            parts that are not known to be defective.

    Returns:
        How the part is told from its background, the settings, and what stands against them; None
        where no part shows an object.
    """
    normals = [ref for ref in refs if ref.split == "train" and ref.label == 0]
    normals = normals or [ref for ref in refs if ref.label != 1]
    if not normals:
        return "", None, ()
    try:
        settings, sentence = survey(
            source, normals, PreparationSettings(), remove_background="auto"
        )
    except DataError as error:
        return (
            "",
            None,
            (Finding("wrong", "No part is seen", f"A normal part shows no object: {error}"),),
        )
    return sentence, settings, ()

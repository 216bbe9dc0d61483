"""Open a path with the reader that recognises its layout, and as a run saw its own parts."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path

from chiasm.detection.preparation.acquisition import Acquisition
from chiasm.detection.readers.sensor_folders import refuse_unread
from chiasm.detection.readers.source import Lamp, SampleRef, SampleSource, remarks_of
from chiasm.errors import DataError
from chiasm.files.readers import find_reader, open_with_reader


def open_source(
    path: Path | str, *, lamp: Lamp | None = None, unit_m: float | None = None
) -> SampleSource:
    """Return the reader that fits a file or folder.

    ``lamp`` selects a lamp of Eyecandies, or the rows of a manifest by its lamp column; ``"all"``
    takes what there is under any. ``unit_m`` is the length of the point maps' unit in metres; None
    takes metres. Raises ``DataError`` for an unknown layout, naming the known ones, and for a lamp
    or a unit with data that has none.
    """
    if lamp == "all":
        layout = find_reader("detection", Path(path))
        if layout is not None and "lamp" not in inspect.signature(layout).parameters:
            lamp = None  # there is one, so that these are all
    if find_reader("detection", Path(path)) is None and Path(path).is_dir():
        refuse_unread(Path(path))
    source: SampleSource = open_with_reader("detection", path, lamp=lamp, unit_m=unit_m)
    return source


def lamp_read(refs: Sequence[SampleRef], lamp: Lamp | None) -> Lamp | None:
    """Return the lamp that parts were read under: a number, ``"all"``, or None of unnamed ones.

    Args:
        refs: that a source found.
        lamp: that it was opened with; None left the choice to the reader.
    """
    numbers = {ref.lamp for ref in refs if ref.lamp is not None}
    if not numbers:
        return None
    return "all" if lamp == "all" or len(numbers) > 1 else numbers.pop()


def open_as_trained(
    path: Path | str, acquisition: Acquisition | None, *, lamp: Lamp | None = None
) -> tuple[SampleSource, tuple[str, ...]]:
    """Open data under the lamp that a run saw its parts under.

    Args:
        path: file or folder.
        acquisition: how the run saw its parts; None where it is not known, of earlier versions.
        lamp: that the user gave, which is taken also where it differs; None takes the run's.

    Returns:
        The source, what its reader assumed, and in what the data differ from the run's, a sentence
        each.

    Raises:
        DataError: the layout is unknown, or the data have several lamps and the run's is not
            among them.
    """
    source, differences = _opened(path, acquisition, lamp)
    return source, (*remarks_of(source), *differences)


def _opened(
    path: Path | str, acquisition: Acquisition | None, lamp: Lamp | None
) -> tuple[SampleSource, tuple[str, ...]]:
    trained = None if acquisition is None else acquisition.lamp
    if lamp is not None:
        source = open_source(path, lamp=lamp)
        return source, _given(source, lamp_read(source.refs, lamp), acquisition)
    everything = open_source(path, lamp="all")
    if not everything.lamps:
        return everything, unnamed_lamp(acquisition)
    if isinstance(trained, int) and trained not in everything.lamps:
        raise DataError(
            f"The model was trained under lamp {trained}, and {path} has parts under "
            f"{_named(everything.lamps)} alone. Add the pictures under lamp {trained}, or name the "
            f"lamp to read them under all the same (--lamp {everything.lamps[0]}); the promised "
            "rate of false alarms does not hold then."
        )
    source = everything if trained == "all" else open_source(path, lamp=trained)
    read = lamp_read(source.refs, trained)
    if acquisition is None:
        if len(everything.lamps) == 1:
            return source, ()
        return source, (
            f"The model was saved without the lamp that it was trained under. Parts are read under "
            f"{_named(read)} of {_named(everything.lamps)}; give the lamp if it is another "
            "(--lamp).",
        )
    return source, _given(source, read, acquisition)


def _given(
    source: SampleSource, read: Lamp | None, acquisition: Acquisition | None
) -> tuple[str, ...]:
    """Return in what the lamps that parts are read under differ from the training's."""
    if acquisition is None or read is None:
        return unnamed_lamp(acquisition)
    if acquisition.lamp is None:
        return (
            f"Parts are read under {_named(read)}; the training's data named no lamp. Scores "
            "compare only if it was the same.",
        )
    numbers = {ref.lamp for ref in source.refs if ref.lamp is not None}
    unseen = sorted(numbers - set(acquisition.lamps))
    if not unseen or not acquisition.lamps:  # earlier versions did not record them
        return ()
    return (
        f"Parts are read under {_named(tuple(unseen))}, under which the model saw no part: it was "
        f"trained under {_named(acquisition.lamps)}. The promised rate of false alarms does not "
        "hold.",
    )


def unnamed_lamp(acquisition: Acquisition | None) -> tuple[str, ...]:
    """Return what to say of parts that name no lamp, for a model that was trained under one."""
    if acquisition is None or acquisition.lamp is None:
        return ()
    return (
        f"The model was trained under {_named(acquisition.lamp)}, and these parts name no lamp: "
        "scores compare only if it was the same.",
    )


def _named(lamps: Lamp | Sequence[int] | None) -> str:
    """Return lamps in words."""
    if lamps is None:
        return "no named lamp"
    if lamps == "all":
        return "all lamps"
    if isinstance(lamps, int):
        return f"lamp {lamps}"
    assert not isinstance(lamps, str)
    if len(lamps) == 1:
        return f"lamp {lamps[0]}"
    return f"lamps {', '.join(map(str, lamps))}"

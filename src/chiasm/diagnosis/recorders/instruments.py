"""Instruments with a format of their own: an UHF detector's XML, a monitor's text files."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.preparation.pulses import pattern_of, pattern_picture
from chiasm.diagnosis.recorders.column_names import TIME_UNITS
from chiasm.diagnosis.recorders.instrument_tables import read_instrument_table
from chiasm.diagnosis.recorders.recorded import (
    Recorded,
    RecorderSettings,
    agreeing_times,
    check_finite,
    degrees_of,
    of_pulses,
    remarked,
    system_of,
)
from chiasm.discharge import Pulses
from chiasm.errors import DataError
from chiasm.files.decoding import bytes_of

# A monitor's files of one recording, and where its settings have the frequency.
_MONITOR_ROLES = ("A", "P", "Ti", "SG")
MONITOR_ROLES = ("A", "P", "Ti")  # without which there is no list of pulses
_MONITOR = re.compile(r"(?P<name>.+)-(A|P|Ti|SG)\.(txt|csv)", re.IGNORECASE)
_MONITOR_FREQUENCY = 9
# What the elements of an instrument's XML are called.
_XML_ROLES = {
    **dict.fromkeys(("times", "time", "timestamps"), "times"),
    **dict.fromkeys(("phase", "phases", "angle", "angles"), "phase"),
    **dict.fromkeys(("sample", "samples", "amplitude", "amplitudes"), "sample"),
    **dict.fromkeys(("charge", "charges", "magnitude", "magnitudes"), "sample"),
    **dict.fromkeys(("quantity", "quantities", "count", "counts", "number"), "quantity"),
}
_XML_LISTS = frozenset({"times", "sample", "quantity"})
_SESSION = re.compile(rb"<(folder|date)>([^<]*)</")


def monitor_files(path: Path) -> dict[str, Path]:
    """Return the files of a monitor's recording by what they hold; none if it is not of one.

    Such a monitor writes amplitude, phase, time and settings of its pulses into ``NAME-A.txt``,
    ``-P.txt``, ``-Ti.txt`` and ``-SG.txt``.
    """
    match = _MONITOR.fullmatch(path.name)
    if match is None:
        return {}
    files = {
        role: path.with_name(f"{match['name']}-{role}{path.suffix}") for role in _MONITOR_ROLES
    }
    return files if all(files[role].is_file() for role in MONITOR_ROLES) else {}


def lone_monitor_file(name: str) -> str:
    """Return a sentence where a file is called like one of a monitor's four, else ""."""
    match = _MONITOR.fullmatch(name)
    if match is None or match[2].lower() == "sg":
        return ""
    return (
        f"{name} is called like a file of a monitor, which writes amplitudes, phases and times "
        f"into {match['name']}-A, -P and -Ti: it is read alone, as a series. If it is of such a "
        "monitor, keep the files of a recording together."
    )


def read_monitor(files: Mapping[str, Path], settings: RecorderSettings) -> Recorded:
    """Read the pulses of a monitor from what ``monitor_files`` found; raises as below."""
    contents = {role: (str(path), bytes_of(path)) for role, path in files.items() if path.is_file()}
    return monitor_list(contents, settings)


def monitor_list(files: Mapping[str, tuple[str, bytes]], settings: RecorderSettings) -> Recorded:
    """Decode the pulses of a monitor from the names and contents of its files.

    Raises:
        DataError: a file is damaged, or the lists differ in their length.
    """
    columns = {}
    for role, (where, content) in files.items():
        columns[role] = read_instrument_table(content, where).values.ravel()
    first = files["A"][0]
    sizes = {role: columns[role].size for role in MONITOR_ROLES}
    if len(set(sizes.values())) > 1:
        raise DataError(
            f"{first}: amplitudes, phases and times have "
            f"{', '.join(map(str, sizes.values()))} values; equal numbers were expected. Copy the "
            "four files again."
        )
    given = columns.get("SG", np.zeros(0))
    frequency, remark = settings.frequency, "assumed"
    if given.size > _MONITOR_FREQUENCY and 10 <= given[_MONITOR_FREQUENCY] <= 400:
        frequency, remark = float(given[_MONITOR_FREQUENCY]), "by its settings"
    check_finite(np.concatenate([columns[role] for role in MONITOR_ROLES]), first)
    phase = degrees_of(columns["P"], "", settings, first)
    own = replace(settings, frequency=frequency)
    time, own, told = agreeing_times(phase, columns["Ti"], own, first, said=True)
    remark = "by its phases and times" if told else remark
    pulses = Pulses(phase, columns["A"], time)
    said = f"{first}: a list of {sizes['A']} pulses of a monitor, {own.frequency:g} Hz ({remark})."
    return remarked(of_pulses(pulses, own), (said, *told))


def instrument_xml(content: bytes, settings: RecorderSettings, where: str) -> Recorded:
    """Read an instrument's XML: lists of equal length of time in the cycle, amplitude and number.

    ``times`` are milliseconds within a cycle of ``sweep_rate`` Hz.
    """
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise DataError(f"{where} has a document type, which instruments do not write.")
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as cause:
        raise DataError(f"{where} is no complete XML ({cause}); copy it again.") from cause
    lists = _lists(root, where)
    sizes = {name: values.size for name, values in lists.items()}
    if len(set(sizes.values())) > 1 or not all(sizes.values()):
        raise DataError(f"{where}: its lists have {sizes} values; equal numbers were expected.")
    if not all(np.isfinite(values).all() for values in lists.values()):
        raise DataError(f"{where}: its lists hold what is no finite number; export it again.")
    text = _text(root, "sweep_rate")
    frequency, told = _rate(text, settings, where)
    if "phase" in lists:
        phase = degrees_of(lists["phase"], "", settings, where)
    else:
        phase = _phase_in_cycle(lists["times"], frequency, settings, where)
    count, said = None, f"{where}: it has no numbers of pulses: each entry counts once."
    if "quantity" in lists:
        if (lists["quantity"] < 0).any():
            raise DataError(f"{where}: quantity has a negative number of pulses; export it again.")
        count, said = lists["quantity"], ""
    pulses = Pulses(phase, lists["sample"], None, count)
    group = {"session": " ".join(filter(None, (_text(root, "folder"), _text(root, "date"))))}
    remark = f"{where}: a pattern of {len(phase)} cells of an instrument, {frequency:g} Hz{told}."
    return Recorded(
        None,
        pattern_picture(pattern_of(pulses)),
        frequency,
        remarks=(remark, *filter(None, (said,))),
        group=group if group["session"] else {},
        pulses=pulses,
        system=system_of(settings),
    )


def _lists(root: ElementTree.Element, where: str) -> dict[str, NDArray[np.float64]]:
    """Return the lists of an XML by what their names say, wherever they stand.

    Raises:
        DataError: amplitudes, or what gives their phases, are not there.
    """
    held: dict[str, str] = {}
    for element in root.iter():
        role = _XML_ROLES.get(_tag(element).lower(), "")
        text = (element.text or "").replace(",", " ").replace(";", " ")
        # A list, and no setting that is called as a list: 'phase' may be a word, 'time' an hour.
        words = text.split()
        many = len(words) > 1 and _numeric(words[0])
        if role and (many or _tag(element) in _XML_LISTS):
            if role in held:
                raise DataError(
                    f"{where} holds several lists of '{_tag(element)}', as of several channels or "
                    "with an element for each pulse, and one was expected: export each channel as "
                    "a CSV with columns phase, charge and count.",
                    see="columns",
                )
            held[role] = text
    absent = [name for name in ("sample",) if name not in held]
    absent += ["times"] if not {"times", "phase"} & held.keys() else []
    if absent:
        names = [_tag(e) for e in root.iter() if len((e.text or "").split()) > 1]
        known = f"It has lists called {', '.join(names[:6])}. " if names else ""
        raise DataError(
            f"{where} is XML without '{absent[-1]}'; known is the XML of detectors that list times "
            "(or phase), sample (or amplitude, charge) and quantity (or count). "
            f"{known}Export a list of pulses with columns phase, charge and count as CSV instead.",
            see="columns",
        )
    lists = {}
    for role, text in held.items():
        try:
            lists[role] = np.array(text.split(), np.float64)
        except ValueError as cause:
            raise DataError(f"{where}: {role} holds something else than numbers.") from cause
    return lists


def _numeric(word: str) -> bool:
    try:
        return np.isfinite(float(word))
    except ValueError:
        return False


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rsplit("}", 1)[-1]


def _text(root: ElementTree.Element, name: str) -> str | None:
    """Return the text of the first element of a name, whatever its name space."""
    return next((e.text for e in root.iter() if _tag(e).lower() == name), None)


def _rate(text: str | None, settings: RecorderSettings, where: str) -> tuple[float, str]:
    """Return the mains frequency of an instrument's XML, and what is to be said of it."""
    if text is None:
        return settings.frequency, " (assumed: it has no sweep_rate)"
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 10 <= rate <= 400:
        raise DataError(
            f"{where}: sweep_rate is '{text[:20]}', no mains frequency from 10 to 400 Hz; write "
            "the right one into the file."
        )
    return rate, ""


def _phase_in_cycle(
    times: NDArray[np.float64], frequency: float, settings: RecorderSettings, where: str
) -> NDArray[np.float64]:
    """Return degrees of times within a mains cycle, which are milliseconds unless said otherwise.

    Raises:
        DataError: they fill less than a hundredth of the cycle, or more than it.
    """
    unit = settings.time_unit or "ms"
    share = times * TIME_UNITS[unit] * frequency
    if float(share.min()) < -0.01 or float(share.max()) > 1.01 or float(share.max()) < 0.01:
        raise DataError(
            f"{where}: its times lie between {times.min():g} and {times.max():g}, which in {unit} "
            f"are no times within a cycle of {frequency:g} Hz; give their unit, time_unit=us or s, "
            "or see sweep_rate in the file."
        )
    return np.mod(share * 360.0, 360.0)


def session_of(path: Path) -> str:
    """Return the session that a detector's XML names in its head, or an empty text."""
    if path.suffix.lower() != ".xml":
        return ""
    with path.open("rb") as stream:
        found = dict(_SESSION.findall(stream.read(4096)))
    names = (found.get(b"folder", b""), found.get(b"date", b""))
    return " ".join(name.decode("utf-8", errors="replace") for name in names if name)

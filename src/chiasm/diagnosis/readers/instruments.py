"""Instruments with a format of their own: an UHF detector's XML, a monitor's text files."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from chiasm.diagnosis.preparation.pulses import pattern_of, pattern_picture
from chiasm.diagnosis.readers.instrument_tables import read_instrument_table
from chiasm.diagnosis.readers.recorded import (
    Recorded,
    RecorderSettings,
    check_finite,
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
    pulses = Pulses(np.mod(columns["P"], 360.0), columns["A"], columns["Ti"])
    said = f"{first}: a list of {sizes['A']} pulses of a monitor, {frequency:g} Hz ({remark})."
    return remarked(of_pulses(pulses, replace(settings, frequency=frequency)), (said,))


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
    lists = {}
    for name in ("times", "sample", "quantity"):
        text = root.findtext(name)
        if text is None:
            raise DataError(
                f"{where} is XML without '{name}'; known is the XML of detectors that list times, "
                "sample and quantity. Export a list of pulses or a table of counts instead."
            )
        try:
            lists[name] = np.array(text.split(), np.float64)
        except ValueError as cause:
            raise DataError(f"{where}: {name} holds something else than numbers.") from cause
    sizes = {name: values.size for name, values in lists.items()}
    if len(set(sizes.values())) > 1 or not all(sizes.values()):
        raise DataError(f"{where}: its lists have {sizes} values; equal numbers were expected.")
    frequency = float(root.findtext("sweep_rate") or settings.frequency)
    phase = np.mod(lists["times"] / 1000 * frequency * 360.0, 360.0)
    pulses = Pulses(phase, lists["sample"], None, lists["quantity"])
    group = {"session": " ".join(filter(None, (root.findtext("folder"), root.findtext("date"))))}
    remark = f"{where}: a pattern of {len(phase)} cells of an instrument, {frequency:g} Hz."
    return Recorded(
        None,
        pattern_picture(pattern_of(pulses)),
        frequency,
        remarks=(remark,),
        group=group if group["session"] else {},
        pulses=pulses,
        system=system_of(settings),
    )


def session_of(path: Path) -> str:
    """Return the session that a detector's XML names in its head, or an empty text."""
    if path.suffix.lower() != ".xml":
        return ""
    with path.open("rb") as stream:
        found = dict(_SESSION.findall(stream.read(4096)))
    names = (found.get(b"folder", b""), found.get(b"date", b""))
    return " ".join(name.decode("utf-8", errors="replace") for name in names if name)

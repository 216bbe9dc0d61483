"""What the name of a column says: time, phase, amplitude or count, and in which unit."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence

# pC in a unit of charge, and kV in one of voltage, as headers write them.
CHARGE_UNITS = {"pc": 1.0, "nc": 1e3, "uc": 1e6, "µc": 1e6, "μc": 1e6, "пкл": 1.0, "нкл": 1e3}
SIGNAL_UNITS = ("v", "mv", "uv", "µv", "μv", "a", "ma", "ua", "dbm", "dbmv", "dbuv")
VOLTAGE_UNITS = {"v": 1e-3, "kv": 1.0, "volt": 1e-3, "volts": 1e-3}

# Seconds of a unit of time, as headers write it.
TIME_UNITS = {
    **{"ps": 1e-12, "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0},
    **{"sec": 1.0, "second": 1.0, "seconds": 1.0, "sekunden": 1.0, "msec": 1e-3, "usec": 1e-6},
    **{"millisecond": 1e-3, "milliseconds": 1e-3, "microsecond": 1e-6, "microseconds": 1e-6},
    **{"nanosecond": 1e-9, "nanoseconds": 1e-9, "min": 60.0, "minutes": 60.0, "h": 3600.0},
    **{"nsec": 1e-9, "secondes": 1.0, "segundos": 1.0, "secondi": 1.0, "nanos": 1e-9},
    **{"с": 1.0, "сек": 1.0, "мс": 1e-3, "мкс": 1e-6, "нс": 1e-9},
    **{"秒": 1.0, "毫秒": 1e-3, "微秒": 1e-6, "纳秒": 1e-9, "초": 1.0, "ミリ秒": 1e-3},
}
NO_TIMES = frozenset({"sample", "samples", "points", "pts", "cycle", "cycles", "days", "dd", "hh"})
# Degrees of a unit of the phase.
PHASE_UNITS = {"degrees": 1.0, "radians": 180 / math.pi, "percent": 3.6, "cycles": 360.0}
_PHASE_WORDS = {
    **dict.fromkeys(("deg", "degree", "degrees", "grad", "grados", "°", "град", "度"), 1.0),
    **dict.fromkeys(("rad", "radian", "radians", "рад", "弧度"), PHASE_UNITS["radians"]),
    **dict.fromkeys(("percent", "pct", "prozent"), PHASE_UNITS["percent"]),
    **dict.fromkeys(("cycle", "cycles", "pu", "turn", "turns", "period", "periods"), 360.0),
    **dict.fromkeys(("gon", "gradian", "gradians"), 0.9),
}
_PI = ("pi", "π")
# A phase may be counted in parts of the cycle, of which no name says how many there are.
PARTS = frozenset({"bin", "bins", "index", "idx", "window", "slot", "sector", "fenster", "klasse"})

# Words of column names, in the languages of instruments.
COLUMN_WORDS: Mapping[str, tuple[str, ...]] = {
    "voltage": (),  # at the test object: told from a voltage that is the signal by what is beside
    "phase": (
        *("phase", "phi", "angle", "winkel", "fase", "grad", "deg", "degree", "degrees", "°"),
        *("theta", "rad", "φ", "ϕ", "θ", "angulo", "angolo", "faza", "hoek", "vinkel"),
        *("фаза", "угол", "相位", "相角", "位相", "위상"),
    ),
    "time": (
        *("time", "zeit", "uhrzeit", "tiempo", "temps", "tempo", "t", "sec", "second", "seconds"),
        *("s", "ms", "us", "µs", "μs", "ns", "msec", "usec", "nsec", "datetime", "epoch"),
        *("czas", "tijd", "tid", "cas", "zaman", "время", "时间", "時間", "時刻", "시간"),
    ),
    "count": (
        *("count", "number", "quantity", "anzahl", "n", "nombre", "numero", "количество", "число"),
        *("次数", "计数", "脉冲数", "回数", "횟수"),
    ),
    "amplitude": (
        *("charge", "amplitude", "ampl", "magnitude", "voltage", "level", "signal", "value"),
        *("height", "peak", "qiec", "qpeak", "vpeak", "vpp", "amp", "current"),
        *("ladung", "spannung", "strom", "carga", "tension", "pc", "nc", "mv", "dbm", "volt"),
        *("ch", "channel", "kanal", "q", "a", "u", "v"),
        *("amplitud", "ampiezza", "tensao", "tensione", "carica", "segnale", "senal", "sinal"),
        *("napieci", "napeti", "spanning", "lading", "signaal", "spanning", "gerilim", "sygnal"),
        *("напряжение", "амплитуда", "заряд", "сигнал", "уровень", "ток", "пкл"),
        *("电压", "幅值", "幅度", "放电量", "放电幅值", "电荷", "信号", "電圧", "振幅", "電荷"),
        *("전압", "진폭", "전하", "신호"),
    ),
}
# What a sensor of discharges is called where nothing else is said of its column.
_SENSORS = frozenset({"pd", "te", "uhf", "hfct", "tev", "rfct", "antenna", "sensor", "probe"})

# First words of columns that hold nothing of the discharges, whatever their unit is called.
_OTHER_QUANTITIES = (
    *("temp", "humid", "press", "moist", "feucht", "druck", "load", "tap"),
    *("ref", "vref", "uref", "sync", "trig", "mains", "netz"),
)
# What a number or a count in a column's name may be of, so that it is one of pulses.
_COUNTED = ("pulse", "pulses", "pd", "event", "events", "discharge", "discharges", "hit", "hits")
# First words of columns of a charge, of a voltage, and of one that says whose a pulse is.
CHARGE_WORDS = ("charge", "q", "ladung", "carga", "pc", "nc", "carica", "заряд", "电荷", "放电量")
VOLTAGE_WORDS = (
    *("voltage", "u", "v", "kv", "spannung", "tension", "applied", "test", "hv", "volt"),
    *("напряжение", "电压", "電圧", "전압"),
)
_OF_WHOM = ("channel", "ch", "kanal", "canal", "sensor", "coupler", "通道", "канал", "채널")

_LATIN = "abcdefghijklmnopqrstuvwxyz"
_WORD = re.compile(r"[a-zμφϕθπ]+|[^\W\d_a-zμφϕθπ]+|°")
_CELSIUS = re.compile(r"°\s*[cf]\b")
_LETTERS = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "º": "°", "µ": "μ"})


def words_of(name: str) -> list[str]:
    """Return the words of a column's name in small letters, those of Latin without accents.

    Example:
        >>> words_of("Tensión [mV]"), words_of("时间us"), words_of("Temp [°C]")
        (['tension', 'mv'], ['时间', 'us'], ['temp'])
    """
    text = unicodedata.normalize("NFKD", name.translate(_LETTERS).casefold())
    kept, before = "", ""
    for letter in text:
        if not (unicodedata.combining(letter) and before in _LATIN):
            kept += letter
            before = letter
    kept = unicodedata.normalize("NFC", kept).translate(_LETTERS)
    return _WORD.findall(_CELSIUS.sub(" ", kept))


def role_of(name: str) -> str:
    """Return what a column's name says that it is: time, phase, amplitude, count, or "".

    Examples:
        >>> [role_of(name) for name in ("Phase (rad)", "second", "CH1 in V", "Apparent charge")]
        ['phase', 'time', 'amplitude', 'amplitude']
        >>> [role_of(name) for name in ("Gain", "Cycle number", "Temperature [deg C]", "Vref [V]")]
        ['', '', '', '']
        >>> [role_of(name) for name in ("UHF", "Время (мс)", "相位角", "PD count")]
        ['amplitude', 'time', 'phase', 'count']
    """
    words = words_of(name)
    times = COLUMN_WORDS["time"]  # 'temps' is none of a temperature
    if words[:1] and words[0] not in times and words[0].startswith(_OTHER_QUANTITIES):
        return ""
    for role, known in COLUMN_WORDS.items():
        if words and any(words[0] == k or _begins(words[0], k) for k in known):
            return role
    # A unit alone tells, too: 'Q [pC]'.
    for role, known in COLUMN_WORDS.items():
        # A number of something else numbers the rows: 'cycle number'.
        if any(word in known for word in words[1:]) and (role != "count" or words[0] in _COUNTED):
            return role
    others = any(word.startswith(_OTHER_QUANTITIES) for word in words)
    return "amplitude" if words and words[0] in _SENSORS and not others else ""


def _begins(word: str, known: str) -> bool:
    # A word of Chinese has two signs.
    return len(known) > (3 if known.isascii() else 1) and word.startswith(known)


def is_charge(name: str) -> bool:
    """Return whether a column's name is that of a charge."""
    words = words_of(name)
    return bool(words) and (words[0] in CHARGE_WORDS or any(w in CHARGE_UNITS for w in words))


def is_of_whom(name: str) -> bool:
    """Return whether a column's name is that of a number of channels: no unit, no quantity.

    Example:
        >>> [is_of_whom(name) for name in ("Channel", "Sensor no", "CH1 [V]", "Phase L")]
        [True, True, False, False]
    """
    words = words_of(name)
    number = ("no", "nr", "number", "id", "index", "num", "n")
    return words[:1] != [] and words[0] in _OF_WHOM and all(w in number for w in words[1:])


def phase_scale(name: str) -> float | None:
    """Return the degrees of a unit of phase that a column's name has; None of none.

    Example:
        >>> phase_scale("phase [%]"), phase_scale("phi (x pi rad)"), phase_scale("phase")
        (3.6, 180.0, None)
    """
    words = words_of(name)
    if any(word in _PI for word in words):
        return 180.0
    if "%" in name:
        return PHASE_UNITS["percent"]
    return next((_PHASE_WORDS[word] for word in words[::-1] if word in _PHASE_WORDS), None)


def unit_of_charge(names: Sequence[str]) -> str:
    """Return the last unit of a charge among words; of coulomb itself only behind a charge.

    Example:
        >>> [unit_of_charge(words) for words in (["q", "pc"], ["charge", "c"], ["ch", "c"])]
        ['pc', 'c', '']
    """
    if len(names) > 1 and names[0] in CHARGE_WORDS and names[-1] == "c":
        return "c"
    return next((word for word in names[::-1] if word in CHARGE_UNITS), "")

"""A sine of the mains beside a signal: its frequency, and where its cycles begin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MAINS = (15.0, 70.0)  # Hz
_PART = 0.95  # of a sine's variance that its fundamental holds
_LEAST, _MOST = 256, 20_000  # values that are looked at
_LEAST_CYCLES = 1.5
_STEPS = 3  # searches, each ten times finer


@dataclass(frozen=True, slots=True)
class Reference:
    """The sine of a reference voltage.

    Attributes:
        frequency: Hz.
        begins: seconds from the first value to the first rising zero.
    """

    frequency: float
    begins: float


def mains_reference(values: NDArray[np.float64], *, rate: float) -> Reference | None:
    """Return the sine of the mains that a signal is; None of any other signal.

    Args:
        values: ``(T,)``.
        rate: values a second.

    Example:
        >>> sine = np.sin(2 * np.pi * 50 * np.arange(4000) / 20000 - 0.5)
        >>> found = mains_reference(sine, rate=20000)
        >>> round(found.frequency, 3), round(found.begins * 1000, 3)
        (50.0, 1.592)
    """
    stride = max(1, len(values) // _MOST)
    signal = values[::stride]
    signal = signal - signal.mean()
    power = float(signal @ signal)
    time = np.asarray(np.arange(len(signal)) * (stride / rate), np.float64)
    if len(signal) < _LEAST or power <= 0 or time[-1] * _MAINS[0] < _LEAST_CYCLES / 3:
        return None
    spectrum = np.abs(np.fft.rfft(signal * np.hanning(len(signal))))
    frequencies = np.fft.rfftfreq(len(signal), stride / rate)
    within = (frequencies >= _MAINS[0]) & (frequencies <= _MAINS[1])
    if not within.any() or int(spectrum.argmax()) not in np.flatnonzero(within):
        return None
    frequency = _refined(float(frequencies[spectrum.argmax()]), signal, time)
    if not _MAINS[0] <= frequency <= _MAINS[1] or time[-1] * frequency < _LEAST_CYCLES:
        return None
    a, b, held = _fitted(frequency, signal, time)
    if held < _PART * power:
        return None
    # a sin + b cos rises through 0 where its phase is a whole number of turns.
    turn = np.mod(-np.arctan2(b, a) / (2 * np.pi), 1.0)
    return Reference(frequency, float(turn / frequency))


def _refined(start: float, signal: NDArray[np.float64], time: NDArray[np.float64]) -> float:
    """Return the frequency whose sine holds most of a signal, near one that a spectrum tells."""
    width = 1.0 / float(time[-1])
    best = start
    for _ in range(_STEPS):
        tried = best + np.linspace(-1, 1, 21) * width
        best = max((f for f in tried if f > 0), key=lambda f: _fitted(f, signal, time)[2])
        width /= 10
    return float(best)


def _fitted(
    frequency: float, signal: NDArray[np.float64], time: NDArray[np.float64]
) -> tuple[float, float, float]:
    """Return the parts of sine and cosine, and the power that they hold."""
    angle = 2 * np.pi * frequency * time
    base = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    parts, *_ = np.linalg.lstsq(base, signal, rcond=None)
    held = base @ parts
    return float(parts[0]), float(parts[1]), float(2 * (held @ signal) - held @ held)

"""Statistics of simulated recordings beside those of real ones, by class and through the readers.

Run (a minute):
  python docs/results/scripts/simulator_reality.py --real shared/data/discharge_real \\
    --output docs/results/simulator_reality.json --commit $(git rev-parse --short HEAD)
writes simulator_reality.json and prints the table of simulator_reality.md.

rate        pulses in a mains cycle: bins above the quiet level by 6 robust deviations
cv_seconds  coefficient of variation of the number of pulses between seconds
cv_cycles   the same between cycles
width       share of the phases (of 32) that hold nine of ten pulses
clusters    runs of occupied phases (as in ``width``), gaps of one phase closed
cv_amplitude  coefficient of variation of the pulses' amplitudes
floor       robust deviation of the values between pulses, as a share of the mean pulse
Of pictures: width, clusters and cv_amplitude of the dots above the band that fills most phases,
floor the height of that band, dots the share of cells with a dot. Of waveforms: spikes, see
``waveform_statistics``; what needs a phase is left out.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from chiasm.diagnosis.preparation.recorders import held_peaks, magnitudes, recognised_polarity
from chiasm.diagnosis.preparation.scales import PictureScale, inked
from chiasm.diagnosis.readers.opening import open_source
from chiasm.diagnosis.simulator.simulator import make_recordings

PHASES, BINS = 32, 128
SIMULATED = {"easy": (60, 20), "field": (210, 210)}  # recordings, sessions
SEED = 71
# Names of folders and files to the simulator's classes; what stands for what is an assumption.
CLASS_OF = {"protrusion": "corona"}
Values = dict[str, float]


def series_statistics(series: NDArray[np.float32], per_cycle: int, frequency: float) -> Values:
    """Return the statistics of a series ``(1, T)`` of whole cycles."""
    polarity = recognised_polarity([series]) or "unipolar"
    upward = magnitudes(series, polarity).astype(np.float64)
    held = held_peaks(upward.astype(np.float32), per_cycle=per_cycle, cycle=BINS).max(axis=0)
    cycles = held.reshape(-1, BINS)
    quiet = np.median(cycles)
    deviation = 1.4826 * np.median(np.abs(cycles - quiet))
    bound = quiet + max(6 * deviation, 1e-9)
    above = cycles > bound
    number = above.sum(axis=1)
    if number.sum() < 5:
        return {"rate": float(number.mean())}
    sizes = cycles[above] - quiet
    second = round(frequency)
    whole = number[: len(number) // second * second].reshape(-1, second).sum(axis=1)
    found = {
        "rate": float(number.mean()),
        "cv_cycles": float(number.std() / number.mean()),
        "cv_amplitude": float(sizes.std() / sizes.mean()),
        **_phase_statistics(above.sum(axis=0)),
    }
    if deviation > 0:
        found["floor"] = float(deviation / sizes.mean())
    if len(whole) >= 3 and whole.sum():
        found["cv_seconds"] = float(whole.std(ddof=1) / whole.mean())
    return found


def picture_statistics(image: NDArray[np.float32]) -> Values:
    """Return the statistics of a picture of a pattern, ``(H, W, 3)`` in [0, 1]."""
    dots = inked(image, BINS, PictureScale(spread=1.0)).max(axis=2) > 0.45
    share = dots.mean(axis=1)
    rows = np.flatnonzero(share > 0.6)
    top = 0
    if rows.size:
        top = BINS - int(rows[0])
    above = dots[: BINS - top - 2] if rows.size else dots
    if above.sum() < 5:
        return {"dots": float(dots.mean()), "floor": top / BINS}
    heights = (len(above) - np.flatnonzero(above.any(axis=1)))[:, None]
    weight = above.sum(axis=1)[above.any(axis=1)]
    heights = np.repeat(heights.ravel(), weight).astype(np.float64)
    return {
        "dots": float(dots.mean()),
        "floor": top / BINS,
        "cv_amplitude": float(heights.std() / heights.mean()),
        **_phase_statistics(above.sum(axis=0)),
    }


def waveform_statistics(samples: NDArray[np.float64], cycles: float) -> Values:
    """Return the statistics of the spikes of a waveform ``(T,)``.

    A spike differs from the running median of nine samples by eight running deviations: carriers
    and bursts, which are slower, are no spikes.
    """
    residual = samples - median_filter(samples, 9)
    whole = 1.4826 * np.median(np.abs(residual))
    local = np.maximum(1.4826 * median_filter(np.abs(residual), 101), whole)
    index = np.flatnonzero(np.abs(residual) > 8 * local)
    groups = np.split(index, np.flatnonzero(np.diff(index) > 4) + 1) if index.size else []
    peaks = np.array([g[np.argmax(np.abs(residual[g]))] for g in groups], np.int64)
    found = {"rate": len(peaks) / cycles}
    if len(peaks):
        sizes = np.abs(residual[peaks])
        found["floor"] = float(samples.std() / sizes.mean())
        found["samples"] = float(np.mean([len(g) for g in groups]))
        if len(peaks) > 1:
            found["cv_amplitude"] = float(sizes.std() / sizes.mean())
    return found


def _phase_statistics(by_bin: NDArray[np.int64]) -> Values:
    counts = by_bin.reshape(PHASES, -1).sum(axis=1)
    order = np.sort(counts)[::-1].cumsum()
    needed = int(np.searchsorted(order, 0.9 * order[-1])) + 1
    occupied = counts >= max(np.sort(counts)[::-1][needed - 1], 1)
    closed = occupied | (np.roll(occupied, 1) & np.roll(occupied, -1))
    begins = closed & ~np.roll(closed, 1)
    return {"width": needed / PHASES, "clusters": float(max(1, begins.sum()))}


def real_statistics(root: Path) -> dict[str, dict[str, list[Values]]]:
    """Return the statistics of the real files, by source and class."""
    found: dict[str, dict[str, list[Values]]] = defaultdict(lambda: defaultdict(list))
    for source in ("megger_xml", "prpd_counts", "pulse_list", "gis_series"):
        opened = (
            open_source(root / source, recorder=("samples_per_cycle=10000",))
            if (source == "gis_series")
            else open_source(root / source)
        )
        for ref in opened.refs:
            sample = opened.load(ref)
            kind = CLASS_OF.get(ref.kind, ref.kind) or _named(Path(ref.source).name)
            if source == "gis_series":
                # One cycle, see the page; nothing of the phase is used.
                assert sample.series is not None
                values = waveform_statistics(sample.series[0].astype(np.float64), 1.0)
            elif sample.series is not None:
                values = series_statistics(
                    sample.series, sample.samples_per_cycle, sample.frequency
                )
            else:
                assert sample.image is not None
                values = picture_statistics(sample.image)
            found[source][kind].append(values)
    return found


def _named(name: str) -> str:
    return "corona" if "corona" in name.lower() else "motor"


def simulated_statistics(work: Path) -> dict[str, dict[str, list[Values]]]:
    """Return the statistics of simulated recordings, by source and class."""
    found: dict[str, dict[str, list[Values]]] = defaultdict(lambda: defaultdict(list))
    for tier, (count, sessions) in SIMULATED.items():
        path = make_recordings(
            work / tier, count=count, sessions=sessions, tier=tier, seed=SEED, workers=1
        )
        opened = open_source(path)
        for ref in opened.refs:
            sample = opened.load(ref)
            assert sample.series is not None and sample.image is not None
            values = series_statistics(sample.series, sample.samples_per_cycle, sample.frequency)
            found[f"{tier}: series"][ref.kind].append(values)
            found[f"{tier}: pictures"][ref.kind].append(picture_statistics(sample.image))
    path = make_recordings(
        work / "waveform",
        count=140,
        sessions=140,
        tier="field",
        seed=SEED,
        workers=1,
        frequency=50,
        waveform=500_000,
        classes=("corona", "void", "particle", "surface"),
    )
    opened = open_source(path)
    for ref in opened.refs:
        series = opened.load(ref).series
        assert series is not None
        found["field: waveforms"][ref.kind].append(
            waveform_statistics(series[0].astype(np.float64), 2.0)
        )
    return found


PAIRS = (
    ("megger_xml", "field: pictures"),
    ("prpd_counts", "field: pictures"),
    ("pulse_list", "field: series"),
    ("gis_series", "field: waveforms"),
)


def comparison(real: Mapping[str, Any], simulated: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each source, class and statistic that both sides have."""
    rows = []
    for source, counterpart in PAIRS:
        for kind, files in sorted(real[source].items()):
            for name in sorted({n for values in files for n in values}):
                mine = np.array([v[name] for v in files if name in v])
                other = np.array(
                    [v[name] for v in simulated[counterpart].get(kind, ()) if name in v]
                )
                low, middle, high = np.percentile(other, (2, 50, 98)) if other.size else 3 * (None,)
                rows.append(
                    {
                        "source": source,
                        "kind": kind,
                        "statistic": name,
                        "files": int(mine.size),
                        "real": [float(v) for v in (mine.min(), np.median(mine), mine.max())],
                        "simulated": None
                        if low is None
                        else [float(low), float(middle), float(high)],
                        "within": None
                        if low is None
                        else float(((mine >= low) & (mine <= high)).mean()),
                    }
                )
    return rows


def summary(statistics: Mapping[str, Any]) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Return 2 %, median and 98 % of each statistic, by source and class."""
    return {
        source: {
            kind: {
                name: [
                    float(v)
                    for v in np.percentile([f[name] for f in files if name in f], (2, 50, 98))
                ]
                for name in sorted({n for f in files for n in f})
            }
            for kind, files in sorted(kinds.items())
        }
        for source, kinds in statistics.items()
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return the comparison as Markdown."""
    lines = [
        "| source | class | statistic | files | real: least, median, largest "
        "| simulated: 2 %, median, 98 % | real files within |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        real = ", ".join(f"{v:.2f}" for v in row["real"])
        other = "–" if row["simulated"] is None else ", ".join(f"{v:.2f}" for v in row["simulated"])
        within = "–" if row["within"] is None else f"{row['within']:.0%}"
        lines.append(
            f"| {row['source']} | {row['kind']} | {row['statistic']} | {row['files']} | {real} | "
            f"{other} | {within} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, and write JSON and table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--real", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--commit", default="")
    arguments = parser.parse_args()
    real = real_statistics(arguments.real)
    with tempfile.TemporaryDirectory() as work:
        simulated = simulated_statistics(Path(work))
    rows = comparison(real, simulated)
    content = {
        "command": "python docs/results/scripts/simulator_reality.py --real shared/data/"
        "discharge_real --output docs/results/simulator_reality.json",
        "seed": SEED,
        "commit": arguments.commit,
        "machine": f"{platform.machine()}, no GPU",
        "comparison": rows,
        "real": summary(real),
        "simulated": summary(simulated),
    }
    arguments.output.write_text(json.dumps(content, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()

"""Tables and figures of the 3D-ADNAS paper, its supplement, and those of our own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chiasm.benchmarks.detection import (
    BOTH,
    BOTH_SENSORS,
    METHODS,
    SENSORS,
    TRIVIAL,
    DetectionSuite,
    is_available,
    printed,
)
from chiasm.benchmarks.table import Entry, Table
from chiasm.benchmarks.trial import Trial
from chiasm.errors import ConfigurationError

IMAGE, PIXEL, REGION = "image.auroc", "pixel.auroc", "region.aupro.0.3"

FIGURES = {
    "image AUROC": IMAGE,
    "pixel AUROC": PIXEL,
    "pixel AP": "pixel.ap",
    "AUPRO(0.3)": REGION,
    "AUPRO(0.05)": "region.aupro.0.05",
    "fit minutes": "cost.fit_minutes",
    "frames a second": "speed.frames_per_second",
    "memory, MB": "speed.peak_memory_mb",
}

NOT_AVAILABLE = "the library does not have the method"

NO_DATA = "the category is not among the data"

MEAN = "Mean"


def source_of(name: str) -> str:
    """Return the paper's table that a name of the command line stands for; "" for our own."""
    if name.startswith("table"):
        return f"Table {name.removeprefix('table')} of the 3D-ADNAS paper"
    if name.startswith("supp"):
        return f"Table {name.removeprefix('supp')} of the 3D-ADNAS supplement"
    return ""


def _few(
    name: str,
    title: str,
    suite: DetectionSuite,
    rows: dict[str, tuple[str, str]],
    folders: dict[str, Any],
) -> Table:
    """Return a table of methods (rows) by number of parts (columns), averaged over ``folders``."""
    values = printed().get(name, {})
    entries = []
    for row, (label, figure) in rows.items():
        if not is_available(label) or not suite.selects(label):
            continue
        for shots in (*suite.shots, None):
            column = "all" if shots is None else str(shots)
            trials = tuple(
                trial
                for folder in folders.values()
                for trial in suite.trials(
                    label, folder, **({} if shots is None else {"shots": shots})
                )
            )
            value = values.get(row, {}).get(column)
            entries.append(Entry(row, column, figure, trials, value))
    return Table(name, title, tuple(entries), source_of(name), "normal parts to train on")


def table6(suite: DetectionSuite) -> Table:
    """Few parts, Eyecandies: three figures of our method."""
    rows = {k: ("3D-ADNAS", FIGURES[k]) for k in ("image AUROC", "pixel AUROC", "AUPRO(0.3)")}
    return _few("table6", "Few normal parts (Eyecandies)", suite, rows, dict(suite.categories))


def table7(suite: DetectionSuite) -> Table:
    """Few parts, MVTec 3D-AD: image AUROC of four methods."""
    rows = {label: (label, IMAGE) for label in printed()["table7"]}
    return _few("table7", "Few normal parts (MVTec 3D-AD)", suite, rows, dict(suite.categories))


def few_shot(suite: DetectionSuite) -> Table:
    """Few parts, every method, on the user's data."""
    rows = {label: (label, IMAGE) for label in METHODS if label not in TRIVIAL}
    return _few("few_shot", "Image AUROC from few parts", suite, rows, dict(suite.categories))


def _few_by_category(name: str, title: str, figure: str, suite: DetectionSuite) -> Table:
    values = printed()[name]
    entries = []
    for row, columns in values.items():
        shots = None if row.startswith("all") else int(row.split()[0])
        more = {} if shots is None else {"shots": shots}
        for column, value in columns.items():
            folder = suite.folder(column)
            trials = () if folder is None else suite.trials("3D-ADNAS", folder, **more)
            entries.append(Entry(row, column, figure, trials, value, "" if trials else NO_DATA))
    return Table(name, title, tuple(entries), source_of(name))


def supp3(suite: DetectionSuite) -> Table:
    """Few parts, image AUROC by category of Eyecandies."""
    return _few_by_category("supp3", "Few parts: image AUROC on Eyecandies", IMAGE, suite)


def supp4(suite: DetectionSuite) -> Table:
    """Few parts, pixel AUROC by category of Eyecandies."""
    return _few_by_category("supp4", "Few parts: pixel AUROC on Eyecandies", PIXEL, suite)


def supp5(suite: DetectionSuite) -> Table:
    """Few parts, AUPRO by category of Eyecandies."""
    return _few_by_category("supp5", "Few parts: AUPRO(0.3) on Eyecandies", REGION, suite)


def supp6(suite: DetectionSuite) -> Table:
    """Few parts, image AUROC by category of MVTec 3D-AD."""
    return _few_by_category("supp6", "Few parts: image AUROC on MVTec 3D-AD", IMAGE, suite)


COMPONENTS = {
    "early": ["early"],
    "middle": ["middle"],
    "late": ["late"],
    "early + middle": ["early", "middle"],
    "early + late": ["early", "late"],
    "middle + late": ["middle", "late"],
    "early + middle + late": ["early", "middle", "late"],
}


def _by_category(name: str, title: str, figure: str, suite: DetectionSuite) -> Table:
    """Return a table of methods by category, the layout of most of the paper's tables."""
    values = printed()[name]
    entries = []
    for row, columns in values.items():
        sensors, _, label = row.partition(" / ")
        if is_available(label) and not suite.selects(label):
            continue
        row_trials: list[Trial] = []
        for column, value in columns.items():
            folder = suite.folder(column)
            trials: tuple[Trial, ...] = ()
            if folder is not None and is_available(label):
                trials = suite.trials(label, folder, modalities=SENSORS[sensors])
                row_trials += trials
            why = "" if trials else NO_DATA if is_available(label) else NOT_AVAILABLE
            if column == MEAN:
                complete = len(row_trials) == (len(columns) - 1) * len(suite.seeds)
                trials = tuple(row_trials) if complete else ()
                why = "" if complete else "a mean over fewer categories is another figure"
            entries.append(Entry(row, column, figure, trials, value, why))
    return Table(name, title, tuple(entries), source_of(name))


def table1(suite: DetectionSuite) -> Table:
    """Image AUROC on Eyecandies."""
    return _by_category("table1", "Image AUROC on Eyecandies", IMAGE, suite)


def table2(suite: DetectionSuite) -> Table:
    """AUPRO on Eyecandies."""
    return _by_category("table2", "AUPRO(0.3) on Eyecandies", REGION, suite)


def table3(suite: DetectionSuite) -> Table:
    """Image AUROC on MVTec 3D-AD."""
    return _by_category("table3", "Image AUROC on MVTec 3D-AD", IMAGE, suite)


def supp1(suite: DetectionSuite) -> Table:
    """Pixel AUROC on Eyecandies."""
    return _by_category("supp1", "Pixel AUROC on Eyecandies", PIXEL, suite)


def supp2(suite: DetectionSuite) -> Table:
    """AUPRO on MVTec 3D-AD."""
    return _by_category("supp2", "AUPRO(0.3) on MVTec 3D-AD", REGION, suite)


def _components(name: str, title: str, suite: DetectionSuite) -> Table:
    """Return a table of fusion cells (rows); the fusion is searched for each of them."""
    values = printed()["table4"]
    entries = []
    names = list(suite.categories)
    printed_folders = {c: suite.folder(c) for c in values["early"] if c != MEAN}
    others = [n for n in names if suite.categories[n] not in printed_folders.values()]
    for row, cells in COMPONENTS.items():
        for column in [c for c, path in printed_folders.items() if path is not None] + others:
            folder = suite.folder(column)
            assert folder is not None
            trials = suite.trials("3D-ADNAS", folder, cells=cells)
            entries.append(Entry(row, column, IMAGE, trials, values[row].get(column)))
            entries.append(Entry(row, f"{column}, pixel AP", FIGURES["pixel AP"], trials))
    return Table(name, title, tuple(entries), source_of("table4"))


def table4(suite: DetectionSuite) -> Table:
    """Early, middle and late fusion cells, alone and together."""
    return _components("table4", "Early, middle and late fusion, alone and together", suite)


def fig4a(suite: DetectionSuite) -> Table:
    """Figure 4a shows what Table 4 lists."""
    return _components("fig4a", "Figure 4a: which fusion modules take part", suite)


def fig4b(suite: DetectionSuite) -> Table:
    """Figure 4b: a single fusion module over one kind of features or over all of them."""
    features = {
        "frozen features": ["*/f8"],
        "their deviation from normal": ["*/normality"],
        "both concatenated": ["*/medium"],
        "all": ["*"],
    }
    return _single(
        "fig4b",
        "Figure 4b: which features a single module may fuse",
        suite,
        {label: {"cells": ["middle"], "candidates": names} for label, names in features.items()},
    )


def fig4c(suite: DetectionSuite) -> Table:
    """Figure 4c: a single fusion module with one operation alone, or with all of them."""
    operations = {
        "addition": ["addition"],
        "concatenation": ["concatenation"],
        "gated linear unit": ["glu"],
        "guided attention": ["guided_attention"],
        "all": ["addition", "concatenation", "glu", "guided_attention"],
    }
    return _single(
        "fig4c",
        "Figure 4c: with which operations a single module may fuse",
        suite,
        {label: {"cells": ["middle"], "operations": names} for label, names in operations.items()},
    )


def _single(name: str, title: str, suite: DetectionSuite, rows: dict[str, dict[str, Any]]) -> Table:
    entries = []
    for row, settings in rows.items():
        for category, folder in suite.categories.items():
            trials = suite.trials("3D-ADNAS", folder, **settings)
            for column in ("image AUROC", "pixel AP", "AUPRO(0.3)"):
                entries.append(Entry(row, f"{category}, {column}", FIGURES[column], trials))
    return Table(name, title, tuple(entries), "Figure 4 of the 3D-ADNAS paper, without its values")


def table5(suite: DetectionSuite) -> Table:
    """Frames a second, memory and image AUROC; measured in turn on this machine."""
    values = printed()["table5"]
    entries = []
    columns = ("frames a second", "memory, MB", "image AUROC", "fit minutes")
    more = {"latency, s": "speed.latency_p50_s", "95 % latency, s": "speed.latency_p95_s"}
    more["disk, MB"] = "speed.disk_mb"
    for label in METHODS:
        if not is_available(label) or not suite.selects(label):
            continue
        trials = tuple(
            c for folder in suite.categories.values() for c in suite.trials(label, folder)
        )
        for column in columns:
            value = values.get(label, {}).get(column)
            entries.append(Entry(label, column, FIGURES[column], trials, value))
        entries += [Entry(label, column, figure, trials) for column, figure in more.items()]
    notes = (
        "Frames a second: from decoded arrays to score and map, one part at a time, on the "
        "processor of this machine; the paper measured on an RTX 4090.",
        "Memory: peak resident memory of the whole process; the paper's figure is of the GPU.",
    )
    return Table(
        "table5", "Speed, memory and accuracy", tuple(entries), source_of("table5"), "", notes
    )


def rivals(suite: DetectionSuite) -> Table:
    """Every method and every figure, on the user's data."""
    entries = []
    several = len(suite.categories) > 1
    for category, folder in suite.categories.items():
        for label in METHODS:
            if not is_available(label) or not suite.selects(label):
                continue
            trials = suite.trials(label, folder)
            row = f"{category}: {label}" if several else label
            entries += [Entry(row, c, figure, trials) for c, figure in FIGURES.items()]
    title = "Baselines on " + ", ".join(suite.categories)
    return Table("rivals", title, tuple(entries))


TABLES: dict[str, Callable[[DetectionSuite], Table]] = {
    table.__name__: table
    for table in (
        *(table1, table2, table3, table4, table5, table6, table7),
        *(supp1, supp2, supp3, supp4, supp5, supp6),
        *(fig4a, fig4b, fig4c, rivals, few_shot),
    )
}


def describe(name: str, suite: DetectionSuite) -> Table:
    """Return the table of that name.

    Raises:
        ConfigurationError: there is no such table, or a method needs another sensor.
    """
    if name not in TABLES:
        raise ConfigurationError(f"There is no table {name!r}; there are: {', '.join(TABLES)}.")
    for label in suite.methods or ():
        method = next((n for n, m in METHODS.items() if label in (n, m["model"])), "")
        if method in BOTH_SENSORS and len(suite.settings.get("modalities", BOTH)) == 1:
            raise ConfigurationError(f"{method} needs both sensors: leave modalities out.")
    return TABLES[name](suite)

"""Tables of the 3D-ADNAS paper and its supplement, and those of our own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from chiasm.benchmarks.detection import (
    BOTH,
    BOTH_SENSORS,
    METHODS,
    SENSORS,
    DetectionSuite,
    Line,
    lamps_in_words,
    printed,
)
from chiasm.benchmarks.detection_figures import (
    FIGURES,
    FIGURES_OF_PAPER,
    IMAGE,
    PIXEL,
    REGION,
    components,
    entry,
)
from chiasm.benchmarks.table import Entry, Table
from chiasm.benchmarks.trial import Trial
from chiasm.errors import ConfigurationError

NO_DATA = "the category is not among the data"
FEWER = "a mean over fewer categories is another figure"
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
    rows: Sequence[tuple[str, Line, str, Mapping[str, float]]],
) -> Table:
    """Return a table by number of parts (columns), averaged over the categories.

    Args:
        name, title: of the table.
        suite: the trials to run.
        rows: label, line, path of the figure, and the printed values by column.
    """
    entries = []
    for label, line, figure, values in rows:
        for shots in (*suite.shots, None):
            column = "all" if shots is None else str(shots)
            more = {} if shots is None else {"shots": shots}
            trials = tuple(
                trial
                for folder in suite.categories.values()
                for trial in suite.trials(line, folder, **more)
            )
            if line.printed and column not in values:
                continue
            entries.append(entry(label, column, figure, line, trials, values.get(column)))
    return Table(name, title, tuple(entries), source_of(name), "normal parts to train on")


def table6(suite: DetectionSuite) -> Table:
    """Few parts, Eyecandies: three figures of our method."""
    rows = [
        (f"{figure}: {line.label}", line, FIGURES[figure], values)
        for figure, values in printed()["table6"].items()
        for line in suite.lines("3D-ADNAS", printed=True)
    ]
    return _few("table6", "Few normal parts (Eyecandies)", suite, rows)


def table7(suite: DetectionSuite) -> Table:
    """Few parts, MVTec 3D-AD: image AUROC of four methods."""
    rows = [
        (line.label, line, IMAGE, values)
        for method, values in printed()["table7"].items()
        for line in suite.lines(method, printed=True)
    ]
    return _few("table7", "Few normal parts (MVTec 3D-AD)", suite, rows)


def few_shot(suite: DetectionSuite) -> Table:
    """Few parts, every method, on the user's data."""
    nothing: Mapping[str, float] = {}
    rows = [(line.label, line, IMAGE, nothing) for line in suite.all_lines(trivial=False)]
    return _few("few_shot", "Image AUROC from few parts", suite, rows)


def _few_by_category(name: str, title: str, figure: str, suite: DetectionSuite) -> Table:
    entries: list[Entry] = []
    for row, columns in printed()[name].items():
        more = {} if row.startswith("all") else {"shots": int(row.split()[0])}
        for line in suite.lines("3D-ADNAS", printed=True):
            label = f"{row}: {line.label}"
            entries += _row(label, line, figure, columns, suite, **more)
    return Table(name, title, tuple(entries), source_of(name))


def _row(
    label: str,
    line: Line,
    figure: str,
    columns: Mapping[str, float],
    suite: DetectionSuite,
    **overrides: object,
) -> Iterator[Entry]:
    """Yield the entries of a row by category; the mean only where every category is there."""
    row_trials: list[Trial] = []
    for column, value in columns.items():
        folder = suite.folder(column)
        trials = () if folder is None else suite.trials(line, folder, **overrides)
        row_trials += trials
        why = NO_DATA
        if column == MEAN:
            complete = len(row_trials) == (len(columns) - 1) * len(suite.seeds)
            trials, why = (tuple(row_trials), "") if complete else ((), FEWER)
        yield entry(label, column, figure, line, trials, value, why)


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


def _by_category(name: str, title: str, figure: str, suite: DetectionSuite) -> Table:
    """Return a table of methods by category, the layout of most of the paper's tables."""
    entries: list[Entry] = []
    for row, columns in printed()[name].items():
        sensors, _, method = row.partition(" / ")
        more = {"modalities": SENSORS[sensors]}
        for line in suite.lines(method, printed=True, **more):
            label = f"{sensors} / {line.label}"
            entries += _row(label, line, figure, columns, suite, **more)
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


def table4(suite: DetectionSuite) -> Table:
    """Early, middle and late fusion cells, alone and together."""
    title = "Early, middle and late fusion, alone and together"
    return components("table4", title, source_of("table4"), suite)


def table5(suite: DetectionSuite) -> Table:
    """Frames a second, memory and image AUROC; measured in turn on this machine."""
    columns = ("frames a second", "memory, MB", "image AUROC", "fit minutes")
    paths = {column: FIGURES[column] for column in columns}
    paths |= {"latency, s": "speed.latency_p50_s", "95 % latency, s": "speed.latency_p95_s"}
    paths["disk, MB"] = "speed.disk_mb"
    entries = [
        Entry(f"{method} (printed)", column, paths[column], (), value)
        for method, values in printed()["table5"].items()
        for column, value in values.items()
    ]
    for line in suite.all_lines():
        trials = tuple(
            t for folder in suite.categories.values() for t in suite.trials(line, folder)
        )
        entries += [entry(line.label, column, path, line, trials) for column, path in paths.items()]
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
        for line in suite.all_lines():
            trials = suite.trials(line, folder)
            row = f"{category}: {line.label}" if several else line.label
            entries += [entry(row, c, figure, line, trials) for c, figure in FIGURES.items()]
    title = "Baselines on " + ", ".join(suite.categories)
    return Table("rivals", title, tuple(entries))


TABLES: dict[str, Callable[[DetectionSuite], Table]] = {
    table.__name__: table
    for table in (
        *(table1, table2, table3, table4, table5, table6, table7),
        *(supp1, supp2, supp3, supp4, supp5, supp6),
        *FIGURES_OF_PAPER,
        *(rivals, few_shot),
    )
}


def describe(name: str, suite: DetectionSuite) -> Table:
    """Return the table of that name.

    Raises:
        ConfigurationError: there is no such table, a method needs another sensor, or a table that
            compares at equal steps is given minutes.
    """
    if name not in TABLES:
        raise ConfigurationError(f"There is no table {name!r}; there are: {', '.join(TABLES)}.")
    if len(suite.settings.get("modalities", BOTH)) == 1:
        for method in (suite.methods and METHODS) or ():
            if METHODS[method]["model"] in BOTH_SENSORS and suite.selects(method):
                raise ConfigurationError(f"{method} needs both sensors: leave modalities out.")
    table = TABLES[name](suite)
    minutes = suite.minutes if suite.minutes is not None else suite.settings.get("minutes")
    if table.equal_steps and minutes is not None:
        raise ConfigurationError(
            f"{name} compares its rows at equal steps of training, and minutes would give them "
            "unequal ones; leave minutes out, and give train_epochs and search.epochs instead."
        )
    lamps = lamps_in_words(suite)
    notes = (*table.notes, f"Lamps. {lamps}.") if lamps else table.notes
    return replace(table, notes=notes)

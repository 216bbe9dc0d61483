"""Figures of the 3D-ADNAS paper as tables: variants of one model at equal steps of training."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from chiasm.api import registered
from chiasm.benchmarks.detection import TRIVIAL, DetectionSuite, Line, printed
from chiasm.benchmarks.figure_drawing import draw_overview, draw_parts
from chiasm.benchmarks.table import NOT_RUN, STEPS, Entry, Table
from chiasm.benchmarks.trial import Trial
from chiasm.detection.building import pools_of
from chiasm.detection.config import DetectionConfig
from chiasm.registry import searched_models

OURS = "3D-ADNAS"
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
COMPARED = {name: FIGURES[name] for name in ("image AUROC", "pixel AP", "AUPRO(0.3)")}
EQUAL = (
    "Every variant is searched anew, and its final weights are trained for the same number of "
    "steps, whatever the time."
)
COMPONENTS = {
    "early": ["early"],
    "middle": ["middle"],
    "late": ["late"],
    "early + middle": ["early", "middle"],
    "early + late": ["early", "late"],
    "middle + late": ["middle", "late"],
    "early + middle + late": ["early", "middle", "late"],
}
SCALES: dict[str, list[Any]] = {"first two layers": [2, 3], "all layers": [2, 3, 4]}
OPERATIONS: dict[str, list[Any]] = {
    "addition": ["addition"],
    "concatenation": ["concatenation"],
    "gated linear unit": ["glu"],
    "guided attention": ["guided_attention"],
    "all": ["addition", "concatenation", "glu", "guided_attention"],
}
FROZEN: dict[str, list[Any]] = {
    "frozen features": ["*/f8"],
    "their deviation from normal": ["*/normality"],
    "both concatenated": ["*/medium"],
    "all": ["*"],
}
FUSIONS = {
    "searched": {"fusion": "search"},
    "EasyNet's fusion, concatenation": {"fusion": "concatenation"},
    "random": {"fusion": "random"},
}


def entry(
    row: str,
    column: str,
    figure: str,
    line: Line,
    trials: tuple[Trial, ...],
    value: float | None = None,
    why_empty: str = "",
) -> Entry:
    """Return the entry of a line: what was run, or what is printed, or why it is empty."""
    if line.printed:
        return Entry(row, column, figure, (), value, "" if value is not None else "not printed")
    if not line.chosen:
        return Entry(row, column, figure, (), None, NOT_RUN)
    return Entry(row, column, figure, trials, None, "" if trials else why_empty)


def components(name: str, title: str, source: str, suite: DetectionSuite) -> Table:
    """Return a table of fusion cells (rows); the fusion is searched for each of them."""
    values = printed()["table4"]
    of_paper = {suite.folder(column): column for column in values["early"]}
    entries = []
    for row, cells in COMPONENTS.items():
        for line in suite.lines(OURS, printed=True):
            label = f"{row}: {line.label}"
            for category, folder in suite.categories.items():
                trials = suite.trials(line, folder, cells=cells)
                column = of_paper.get(folder, category)
                if line.printed and column not in values[row]:
                    continue
                entries.append(entry(label, column, IMAGE, line, trials, values[row].get(column)))
                if not line.printed:
                    ap, steps = FIGURES["pixel AP"], f"{column}, steps"
                    entries.append(entry(label, f"{column}, pixel AP", ap, line, trials))
                    entries.append(entry(label, steps, STEPS, line, trials))
    return Table(name, title, tuple(entries), source, notes=(EQUAL,), equal_steps=True)


def fig4a(suite: DetectionSuite) -> Table:
    """Figure 4a shows what Table 4 lists."""
    title = "Figure 4a: which fusion modules take part"
    return components("fig4a", title, "Figure 4 and Table 4 of the 3D-ADNAS paper", suite)


def fig4b(suite: DetectionSuite) -> Table:
    """Figure 4b: the middle module over its first two layers or over all of them."""
    rows = {label: {"cells": ["middle"], "middle_scales": s} for label, s in SCALES.items()}
    title = "Figure 4b: which layers the middle module fuses"
    return _variants("fig4b", title, _training_features(suite), rows)


def fig4c(suite: DetectionSuite) -> Table:
    """Figure 4c: a single fusion module with one operation alone, or with all of them."""
    rows = {label: {"cells": ["middle"], "operations": o} for label, o in OPERATIONS.items()}
    return _variants(
        "fig4c", "Figure 4c: with which operations a single module may fuse", suite, rows
    )


def frozen_features(suite: DetectionSuite) -> Table:
    """A single fusion module over one kind of frozen features, or over all of them."""
    rows = {label: {"cells": ["middle"], "candidates": c} for label, c in FROZEN.items()}
    title = "Which frozen features a single module may fuse"
    return replace(_variants("frozen_features", title, suite, rows), source="")


def fusions(suite: DetectionSuite) -> Table:
    """The searched fusion against EasyNet's, which is made by hand, and random ones."""
    title = "The searched fusion, the hand-made one and random ones"
    table = _variants("fusions", title, suite, FUSIONS)
    note = "A random fusion is drawn by the seed of its run; --seeds gives several."
    return replace(table, source="", notes=(*table.notes, note))


def fig1(suite: DetectionSuite) -> Table:
    """Figure 1: how far variants of the fusion lie apart, and accuracy, speed and memory."""
    entries = []
    for level, variants in _levels(suite):
        for row, settings in variants.items():
            for line in suite.lines(OURS, **settings):
                label = f"{level} / {row}: {line.label}"
                trials = _everywhere(suite, line, settings)
                entries.append(entry(label, "image AUROC", IMAGE, line, trials))
                entries.append(entry(label, "steps", STEPS, line, trials))
    means = {row: values["Mean"] for row, values in printed()["table4"].items()}
    for row, value in means.items():
        entries.append(
            Entry(f"inter-module / {row}: {OURS} (printed)", "image AUROC", IMAGE, (), value)
        )
    columns = ("frames a second", "memory, MB", "image AUROC")
    for method, values in printed()["table5"].items():
        entries += [
            Entry(f"methods / {method} (printed)", c, FIGURES[c], (), values[c]) for c in columns
        ]
    for line in suite.all_lines(trivial=False):
        trials = _everywhere(suite, line, {})
        label = f"methods / {line.label}"
        entries += [entry(label, c, FIGURES[c], line, trials) for c in columns]
    notes = (
        EQUAL,
        "Printed values are means over the ten categories of MVTec 3D-AD, with frames and memory "
        "of an RTX 4090; ours are of these data, on the processor of this machine.",
    )
    return Table(
        "fig1",
        "Figure 1: variants of the fusion, and methods by accuracy, speed and memory",
        tuple(entries),
        "Figure 1 of the 3D-ADNAS paper, with the values of its Tables 4 and 5",
        notes=notes,
        ranked=False,
        equal_steps=True,
        draw=draw_overview,
    )


def fig5(suite: DetectionSuite) -> Table:
    """Figure 5: anomaly maps of test parts, one of each kind of defect."""
    lines = suite.lines(OURS)
    if suite.methods is not None:
        lines = [line for line in suite.all_lines() if line.method not in TRIVIAL]
    entries = [
        entry(line.label, f"{category}, {column}", FIGURES[column], line, trials)
        for line in lines
        for category, folder in suite.categories.items()
        for trials in (suite.trials(line, folder),)
        for column in ("pixel AP", "AUPRO(0.3)")
    ]
    note = (
        "The picture shows the first test part of each kind of defect, in the order of the data, "
        "whatever its score; its JSON lists them."
    )
    source = "Figure 5 of the 3D-ADNAS paper, on these data"
    title = "Figure 5: anomaly maps of test parts"
    return Table("fig5", title, tuple(entries), source, notes=(note,), draw=draw_parts)


def _variants(
    name: str, title: str, suite: DetectionSuite, rows: Mapping[str, dict[str, Any]]
) -> Table:
    """Return a table of variants of the searched model (rows) by figure and category."""
    entries = []
    for row, settings in rows.items():
        for line in suite.lines(OURS, **settings):
            label = f"{row}: {line.label}"
            for category, folder in suite.categories.items():
                trials = suite.trials(line, folder, **settings)
                if trials:
                    # A model that has no such features says so before anything is run.
                    config = DetectionConfig.make(data=folder, out=folder, **trials[0].settings)
                    pools_of(config)
                for column, path in (COMPARED | {"steps": STEPS}).items():
                    entries.append(entry(label, f"{category}, {column}", path, line, trials))
    source = "Figure 4 of the 3D-ADNAS paper, without its values"
    return Table(name, title, tuple(entries), source, notes=(EQUAL,), equal_steps=True)


def _training_features(suite: DetectionSuite) -> DetectionSuite:
    """Return the suite with a model that trains its features, unless it names its models."""
    if suite.methods is not None or "model" in suite.settings:
        return suite
    models = (model for model in searched_models("detector") if model.size != "base")
    chosen = next(model.name for model in models if _has_scales(model.name))
    return replace(suite, settings={**suite.settings, "model": chosen})


def _has_scales(model: str) -> bool:
    return "middle_scales" in inspect.signature(registered(model).builder).parameters


def _levels(suite: DetectionSuite) -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    """Yield both levels of the search space, and the settings of the variants of each."""
    yield "inter-module", {row: {"cells": cells} for row, cells in COMPONENTS.items()}
    run = [line.method for line in suite.lines(OURS) if line.chosen]
    scales = bool(run) and _has_scales(suite.settings_of(run[0])["model"])
    name, choices = ("middle_scales", SCALES) if scales else ("candidates", FROZEN)
    single = {f"operations: {row}": {"operations": chosen} for row, chosen in OPERATIONS.items()}
    single |= {f"features: {row}": {name: chosen} for row, chosen in choices.items()}
    yield "intra-module", {row: {"cells": ["middle"], **s} for row, s in single.items()}


def _everywhere(
    suite: DetectionSuite, line: Line, settings: Mapping[str, Any]
) -> tuple[Trial, ...]:
    """Return the trials of a line on all categories."""
    folders = suite.categories.values()
    return tuple(trial for folder in folders for trial in suite.trials(line, folder, **settings))


FIGURES_OF_PAPER: tuple[Callable[[DetectionSuite], Table], ...] = (
    *(fig1, fig4a, fig4b, fig4c, fig5),
    *(frozen_features, fusions),
)

"""Tables of recordings: every method on one's own data, how robust each is, and the MAD paper's."""

from __future__ import annotations

from collections.abc import Callable

from chiasm.benchmarks.asked_recordings import RANDOM, AskedRecordings
from chiasm.benchmarks.mad_tables import MAD_TABLES
from chiasm.benchmarks.paired import Comparison
from chiasm.benchmarks.table import POOLED, Entry, Table
from chiasm.data.discharge.corruptions import CORRUPTIONS
from chiasm.errors import ConfigurationError
from chiasm.evaluation.diagnosis.predictions import CORRUPTED

COST = {
    "latency p50, s": "speed.latency_p50_s",
    "memory, MB": "speed.peak_memory_mb",
    "fit minutes": "cost.fit_minutes",
}
POOLED_FIGURES = {"macro-F1": "macro_f1", "AUC": "auroc", "ECE": "ece"}
_ABSENT = {"picture absent": "missing.picture absent", "series absent": "missing.series absent"}


def classifiers(asked: AskedRecordings) -> Table:
    """Every method on one's own recordings, by one split or several."""
    entries, compared = [], []
    several = len(asked.splits) > 1
    rows = {split: {x: asked.cells(x, split) for x in asked.labels} for split in asked.splits}
    for label in asked.labels:
        for split in asked.splits:
            cells = rows[split][label]
            for column, figure in POOLED_FIGURES.items():
                name = f"{column}, {split}" if several else column
                entries.append(Entry(label, name, POOLED + figure, cells, by=split))
        cells = rows[asked.splits[0]][label]
        entries += [Entry(label, column, figure, cells) for column, figure in COST.items()]
    for split in asked.splits:
        compared.append(Comparison(split_words(asked, split), split, rows[split]))
    notes = (
        "Macro-F1, AUC and ECE are of all test recordings of a row's runs together, each judged by "
        "a model that has not seen its group; intervals are of a bootstrap over these groups, or "
        "over sessions where the groups are too few or the split is random.",
        *_random_notes(asked),
        *([f"Costs are those of the {asked.splits[0]} split, of one run."] if several else []),
    )
    title = f"Classifiers on {asked.data.name}. " + ". ".join(
        split_words(asked, split) for split in asked.splits
    )
    return Table("classifiers", title, tuple(entries), notes=notes, compared=tuple(compared))


def classifier_robustness(asked: AskedRecordings) -> Table:
    """Macro-F1 without a modality, and of corrupted recordings."""
    split = asked.splits[0]
    entries = []
    columns = {"as they are": "recording.macro_f1"} | _ABSENT
    columns |= {"mean of all corruptions": "corruptions.*"}
    columns |= {name: f"corruptions.{name}" for name in CORRUPTIONS}
    evaluation = {"most_corrupted": asked.corrupted}
    rows = {label: asked.cells(label, split, evaluation) for label in asked.labels}
    for label, cells in rows.items():
        entries += [
            Entry(label, column, figure, cells, by=split) for column, figure in columns.items()
        ]
    words = split_words(asked, split)
    compared = (
        Comparison(f"{words}, as they are", split, rows),
        Comparison(f"{words}, all corruptions together", split, rows, CORRUPTED),
    )
    notes = (
        "'As they are' and with a modality absent: all test recordings. Corrupted: up to "
        f"{asked.corrupted} of them, of all classes alike.",
        "No method was trained on corrupted recordings. A dash where a method never looks at the "
        "modality that is absent or at the other one.",
    )
    return Table(
        "classifier_robustness",
        f"Robustness on {asked.data.name}. {words}",
        tuple(entries),
        notes=notes,
        compared=compared,
    )


def split_words(asked: AskedRecordings, split: str) -> str:
    """A split in words."""
    groups = asked.groups(split)
    if groups:
        return f"Each {split} left out in turn ({len(groups)})"
    return "Random split" if split == RANDOM else f"Split by {split}"


def _random_notes(asked: AskedRecordings) -> list[str]:
    if RANDOM not in asked.splits:
        return []
    return [
        "On a random split recordings of one session stand on both sides: it measures how well "
        "sessions are recognised, not faults."
    ]


RECORDING_TABLES: dict[str, Callable[[AskedRecordings], Table]] = {
    one.__name__: one for one in (classifiers, classifier_robustness, *MAD_TABLES)
}


def describe_recordings(name: str, asked: AskedRecordings) -> Table:
    """The table of that name; ``ConfigurationError`` lists those that there are."""
    if name not in RECORDING_TABLES:
        raise ConfigurationError(
            f"There is no table {name!r} of recordings; there are: {', '.join(RECORDING_TABLES)}."
        )
    return RECORDING_TABLES[name](asked)

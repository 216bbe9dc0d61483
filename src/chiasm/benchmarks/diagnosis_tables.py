"""Tables of recordings: all methods on the user's data, their robustness, and the MAD paper's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from chiasm.benchmarks.diagnosis import ALONE, RANDOM, TREES, DiagnosisSuite, printed_mad
from chiasm.benchmarks.diagnosis_facts import SHARES
from chiasm.benchmarks.paired import Comparison
from chiasm.benchmarks.table import POOLED, Entry, Table
from chiasm.benchmarks.trial import Trial
from chiasm.diagnosis.augmentation.corruptions import CORRUPTIONS
from chiasm.diagnosis.config import DiagnosisConfig
from chiasm.diagnosis.report.predictions import CORRUPTED
from chiasm.errors import ConfigurationError

PAPER = "of the MAD paper"

F1, AUC = POOLED + "macro_f1", POOLED + "auroc"

_OF_NETWORKS = ("contrast_share", "cost.million_weights")  # figures that trees have not

_THREE = ("MAD", "MAD, image alone", "MAD, series alone")

_FAMILY = (
    "The p-values are adjusted over the pairs of this table; a table of more rows adjusts over "
    "more pairs, and the same pair may be significant here and not there."
)

_OTHER_DATA = (
    "Printed values are of other recordings (AI-Hub 71682, a random split, mad_base): they are for "
    "orientation, not for comparison."
)


def mad_table2(suite: DiagnosisSuite) -> Table:
    """MAD on both modalities and on each alone."""
    figures = {
        "macro-F1": F1,
        "AUC": AUC,
        "contrast, share of chance": "contrast_share",
        "million weights": "cost.million_weights",
    }
    notes = (
        _OTHER_DATA,
        "Contrast: where the lowest supervised contrastive loss of the first stage on held-out "
        "recordings lies between its floor (0: classes as far apart as possible) and chance (1: "
        "all vectors are equal). The loss itself depends on the number of vectors, which is "
        "another with one modality; so do the paper's "
        + ", ".join(
            f"{values['contrast loss']} ({row})"
            for row, values in printed_mad()["mad_table2"].items()
        )
        + ", sums over a batch of unknown size.",
    )
    rows = {label: label for label in _THREE}
    return _table(
        "mad_table2", "MAD on one modality or both", "Table 2", suite, rows, figures, notes
    )


def mad_table3(suite: DiagnosisSuite) -> Table:
    """Both sizes of MAD: weights, operations, macro-F1, variation of the validation macro-F1."""
    figures = {
        "million weights": "cost.million_weights",
        "GFLOPs": "gflops.paper",
        "GFLOPs with attention": "gflops.true",
        "macro-F1": F1,
        "change from epoch to epoch": "restless",
    }
    notes = (
        _OTHER_DATA,
        "Printed GFLOPs leave attention out. Both counts are of a whole recording without folding, "
        "independent of the preset.",
        "The paper calls validation of the base 'unstable' and of the small one 'stable'; the last "
        "column is the mean change of its macro-F1 between epochs of the second stage.",
    )
    return _sizes("mad_table3", "Size of MAD", "Table 3", suite, figures, notes)


def mad_table4(suite: DiagnosisSuite) -> Table:
    """MAD, three other networks, and trees on MAD's own inputs."""
    rows = {label: label for label in printed_mad()["mad_table4"]}
    figures = {"AUC": AUC, "macro-F1": F1, "ECE": POOLED + "ece"}
    notes = (_OTHER_DATA, "CFM is a surrogate: the paper cites no source for it.")
    return _table(
        "mad_table4", "MAD, other networks and trees", "Table 4", suite, rows, figures, notes
    )


def mad_fig3(suite: DiagnosisSuite) -> Table:
    """Figure 3 as numbers: separation of the classes before and after the flows."""
    variants: dict[str, dict[str, Any]] = {
        "flows, as published": {},
        "flows with likelihood, weight 0.01": {"flow_weight": 0.01},
        "no flows": {"flow": "identity"},
    }
    entries = []
    rows = {row: suite.trials("MAD", **settings) for row, settings in variants.items()}
    for row, trials in rows.items():
        for column, figure in {
            "silhouette before": "silhouette.before",
            "silhouette after": "silhouette.after",
            "gap before": "gap.before.distance",
            "gap after": "gap.after.distance",
            "macro-F1": F1,
        }.items():
            entries.append(_entry(suite, row, column, figure, trials))
    notes = (
        "Silhouette of the classes over the mean tokens of test recordings: 1 for separate "
        "classes, 0 for overlapping ones. Gap: distance of the modalities' means.",
        "The report in the folder of each run has the picture.",
        *_token_notes(suite),
    )
    return Table(
        "mad_fig3", "Before and after the flows", tuple(entries), _source("Figure 3"), "", notes
    )


def mad_fig4(suite: DiagnosisSuite) -> Table:
    """Figure 4: confusion of MAD on both modalities and on each alone."""
    rows = {label: suite.trials(label) for label in (*_THREE, TREES)}
    return _confusion("mad_fig4", "Confusion, by modality", "Figure 4", suite, rows)


def mad_fig5(suite: DiagnosisSuite) -> Table:
    """Figure 5: training curves of both sizes over the second stage."""
    entries = []
    lines = {
        "training loss": "learning.train_loss",
        "validation loss": "learning.validation_loss",
        "validation macro-F1": "learning.validation_f1",
    }
    rows = {size: suite.trials("MAD", size=size) for size in ("base", "small")}
    for size, trials in rows.items():
        for line, figure in lines.items():
            entries += [
                _entry(suite, f"{size}, {line}", str(share), f"{figure}.{share}", trials)
                for share in SHARES
            ]
    return Table(
        "mad_fig5",
        "Training curves of both sizes",
        tuple(entries),
        _source("Figure 5"),
        "share of the second stage, %",
        ("On validation recordings; the paper shows its test set.", *_token_notes(suite)),
        _compared(suite, rows),
    )


def mad_fig6(suite: DiagnosisSuite) -> Table:
    """Figure 6: confusion with contrastive pretraining, and with cross-entropy alone."""
    rows = {label: suite.trials(label) for label in ("MAD", ALONE, TREES)}
    return _confusion("mad_fig6", "Confusion, by loss", "Figure 6", suite, rows)


MAD_TABLES: tuple[Callable[[DiagnosisSuite], Table], ...] = (
    *(mad_table2, mad_table3, mad_table4),
    *(mad_fig3, mad_fig4, mad_fig5, mad_fig6),
)


def _source(item: str) -> str:
    return f"{item} {PAPER}"


def _entry(
    suite: DiagnosisSuite, row: str, column: str, figure: str, trials: Any, value: Any = None
) -> Entry:
    return Entry(row, column, figure, trials, value, by=suite.splits[0])


def _table(
    name: str,
    title: str,
    source: str,
    suite: DiagnosisSuite,
    rows: Mapping[str, str],
    figures: Mapping[str, str],
    notes: Sequence[str],
) -> Table:
    values = printed_mad()[name]
    rows = {**rows, TREES: TREES}
    trials = {row: suite.trials(label) for row, label in rows.items() if label in suite.labels}
    entries = [
        _entry(suite, row, column, figure, trials[row], values.get(row, {}).get(column))
        for row in trials
        for column, figure in figures.items()
        if row != TREES or figure not in _OF_NETWORKS
    ]
    compared = _compared(suite, trials)
    notes = (*notes, *_token_notes(suite), _FAMILY)
    return Table(name, title, tuple(entries), _source(source), "", notes, compared)


def _token_notes(suite: DiagnosisSuite) -> tuple[str, ...]:
    """Return how many tokens MAD has of a recording, and how many the paper's has."""
    if "MAD" not in suite.labels:
        return ()
    settings = suite.trials("MAD")[0].settings
    config = DiagnosisConfig.make(data=suite.data, out=suite.data, **settings)
    tokens = config.tokens()
    parts = " and ".join(f"{count:,} of the {modality}" for modality, count in tokens.items())
    return (
        f"A recording of 20 s is {sum(tokens.values()):,} tokens here ({parts}; preset "
        f"{config.preset}); in the paper it is 2,816 (256 and 2,560).",
    )


def _sizes(
    name: str,
    title: str,
    source: str,
    suite: DiagnosisSuite,
    figures: Mapping[str, str],
    notes: Sequence[str],
) -> Table:
    values = printed_mad()[name]
    entries = []
    rows = {f"MAD, {size}": suite.trials("MAD", size=size) for size in ("base", "small")}
    for row, trials in rows.items():
        entries += [
            _entry(suite, row, column, figure, trials, values[row].get(column))
            for column, figure in figures.items()
        ]
    compared = _compared(suite, rows)
    notes = (*notes, *_token_notes(suite))
    return Table(name, title, tuple(entries), _source(source), "", notes, compared)


def _confusion(
    name: str, title: str, source: str, suite: DiagnosisSuite, rows: Mapping[str, Any]
) -> Table:
    entries = [
        _entry(
            suite, f"{label}: {true}", f"called {predicted}", f"called.{true}.{predicted}", trials
        )
        for label, trials in rows.items()
        for true in suite.kinds
        for predicted in suite.kinds
    ]
    notes = ("Shares of the recordings of each true class.", *_token_notes(suite))
    compared = _compared(suite, rows)
    return Table(name, title, tuple(entries), _source(source), "", notes, compared, ranked=False)


def _compared(suite: DiagnosisSuite, rows: Mapping[str, tuple[Trial, ...]]) -> tuple[Any, ...]:
    split = suite.splits[0]
    return (Comparison(f"Split by {split}", split, rows),)


COST = {
    "latency p50, s": "speed.latency_p50_s",
    "memory, MB": "speed.peak_memory_mb",
    "fit minutes": "cost.fit_minutes",
}

POOLED_FIGURES = {"macro-F1": "macro_f1", "AUC": "auroc", "ECE": "ece"}

_WITHOUT_MODALITY = {
    "picture absent": "missing.picture absent",
    "series absent": "missing.series absent",
}


def classifiers(suite: DiagnosisSuite) -> Table:
    """Every method on the user's recordings, by one split or several."""
    entries, compared = [], []
    several = len(suite.splits) > 1
    rows = {
        split: {label: suite.trials(label, split) for label in suite.labels}
        for split in suite.splits
    }
    for label in suite.labels:
        for split in suite.splits:
            trials = rows[split][label]
            for column, figure in POOLED_FIGURES.items():
                name = f"{column}, {split}" if several else column
                entries.append(Entry(label, name, POOLED + figure, trials, by=split))
        trials = rows[suite.splits[0]][label]
        entries += [Entry(label, column, figure, trials) for column, figure in COST.items()]
    for split in suite.splits:
        compared.append(Comparison(split_words(suite, split), split, rows[split]))
    notes = (
        "Macro-F1, AUC and ECE are of the joined test recordings of a row's runs, each predicted "
        "by a model that has not seen its group; intervals are bootstrapped over these groups, or "
        "over sessions if there are too few groups or the split is random.",
        *_random_notes(suite),
        *_token_notes(suite),
        _FAMILY,
        *([f"Costs are of one run of the {suite.splits[0]} split."] if several else []),
    )
    title = f"Classifiers on {suite.data.name}. " + ". ".join(
        split_words(suite, split) for split in suite.splits
    )
    return Table("classifiers", title, tuple(entries), notes=notes, compared=tuple(compared))


def classifier_robustness(suite: DiagnosisSuite) -> Table:
    """Macro-F1 without a modality, and of corrupted recordings."""
    split = suite.splits[0]
    entries = []
    columns = {"uncorrupted": "recording.macro_f1"} | _WITHOUT_MODALITY
    columns |= {"mean of all corruptions": "corruptions.*"}
    columns |= {name: f"corruptions.{name}" for name in CORRUPTIONS}
    evaluation = {"most_corrupted": suite.corrupted}
    rows = {label: suite.trials(label, split, evaluation) for label in suite.labels}
    for label, trials in rows.items():
        entries += [
            Entry(label, column, figure, trials, by=split) for column, figure in columns.items()
        ]
    words = split_words(suite, split)
    compared = (
        Comparison(f"{words}, uncorrupted", split, rows),
        Comparison(f"{words}, all corruptions together", split, rows, CORRUPTED),
    )
    notes = (
        "Uncorrupted and with a modality absent: all test recordings. Corrupted: up to "
        f"{suite.corrupted} of them, balanced over the classes.",
        "No method was trained on corrupted recordings. A dash: the method does not use the absent "
        "modality, or it uses no other one.",
    )
    return Table(
        "classifier_robustness",
        f"Robustness on {suite.data.name}. {words}",
        tuple(entries),
        notes=notes,
        compared=compared,
    )


def split_words(suite: DiagnosisSuite, split: str) -> str:
    """Return a split in words."""
    groups = suite.groups(split)
    if groups:
        return f"Each {split} left out in turn ({len(groups)})"
    return "Random split" if split == RANDOM else f"Split by {split}"


def _random_notes(suite: DiagnosisSuite) -> list[str]:
    if RANDOM not in suite.splits:
        return []
    return [
        "A random split puts recordings of one session into training and test: it measures how "
        "well sessions are recognised, not faults."
    ]


RECORDING_TABLES: dict[str, Callable[[DiagnosisSuite], Table]] = {
    table.__name__: table for table in (classifiers, classifier_robustness, *MAD_TABLES)
}


def describe_recordings(name: str, suite: DiagnosisSuite) -> Table:
    """Return the table of that name; ``ConfigurationError`` lists those that exist."""
    if name not in RECORDING_TABLES:
        raise ConfigurationError(
            f"There is no table {name!r} of recordings; there are: {', '.join(RECORDING_TABLES)}."
        )
    return RECORDING_TABLES[name](suite)

"""The report of a classifier: one self-contained page with its figures and plots."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from chiasm.diagnosis.report.curves import (
    confusion_matrix,
    corruption_curves,
    f1_bars,
    learning_curves,
    read_learning,
    reliability_diagram,
)
from chiasm.diagnosis.report.embedding import embedding_scatter
from chiasm.diagnosis.report.gallery import COLUMNS, WRONG, Case, Loader, make_cases, write_cases
from chiasm.diagnosis.report.schema import RecordingFigures, validated
from chiasm.diagnosis.report.scored import ScoredRecordings
from chiasm.diagnosis.report.unknown_faults import unknown_words
from chiasm.diagnosis.report.wording import (
    GAP_ROWS,
    MEANING,
    OPEN_SET_SCORES,
    SIMULATED,
    case_words,
    diagnosis_cost,
    headline,
    split_words,
    warnings,
)
from chiasm.errors import DataError
from chiasm.fusion.genotype import Genotype
from chiasm.reporting.trade_off_section import trade_off_section
from chiasm.runs.evolution_round import PARETO
from chiasm.runs.model_folder import GENOTYPE
from chiasm.training.progress import working


@working("Writing the report")
def write_diagnosis_report(
    folder: Path,
    *,
    metrics: dict[str, Any],
    scored: ScoredRecordings,
    title: str,
    repeat: str,
    load: Loader | None = None,
    notes: Sequence[str] = (),
    run: Path | None = None,
) -> Path:
    """Write ``report.html``, ``metrics.json`` and the plots as PNG; return the page's path.

    Args:
        folder: of the report.
        metrics: from ``evaluate_recordings``; checked against the schema before it is written.
        scored: the recordings of the metrics.
        title: the page's heading.
        repeat: the command that writes this report.
        load: reads the recording at an index of ``scored``, for the gallery; None omits it.
        notes: further warnings.
        run: the run's folder, which holds the learning curves in ``logs`` and, after a search,
            the genotype, its drawing and the trade-offs of an evolution.

    Raises:
        pydantic.ValidationError: the metrics do not fit the schema.
    """
    content = json.dumps(validated(metrics), indent=2) + "\n"
    figures = folder / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(content, encoding="utf-8")
    cases = make_cases(scored, load) if load is not None else []
    write_cases(cases, figures)
    # Kinds and paths come from the data, so all text is escaped.
    environment = Environment(
        loader=PackageLoader("chiasm.reporting"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    genotype, trade_offs = _genotype(run), None
    try:
        if run is not None:
            trade_offs = trade_off_section(run / PARETO, genotype=genotype, figures=figures)
    except DataError as error:
        notes = [*notes, str(error)]
    page = environment.get_template("diagnosis.html.j2").render(
        title=title,
        headline=headline(metrics),
        split_words=split_words(metrics),
        simulated_words=SIMULATED,
        cards=_cards(metrics),
        warnings=[*notes, *warnings(metrics)],
        metrics=metrics,
        kinds=scored.kinds,
        rows=RecordingFigures.rows(),
        gap_rows=GAP_ROWS,
        open_names=_score_names(metrics["open_set"].values()),
        unknown_says=unknown_words(metrics["unknown"]) if metrics.get("unknown") else [],
        unknown_names=_score_names(
            one["scores"] for one in (metrics.get("unknown") or {"kinds": {}})["kinds"].values()
        ),
        columns=COLUMNS,
        cases=[_case_entry(case, scored) for case in cases],
        wrong=any(case.reason == WRONG for case in cases),
        pictures={
            name: _data_uri(path.read_bytes())
            for name, path in _pictures(metrics, scored, figures, run).items()
            if path is not None
        },
        trade_offs=trade_offs,
        genotype_text=genotype and genotype.summary(),
        cost=diagnosis_cost(metrics["cost"]),
        repeat=repeat,
    )
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def _pictures(
    metrics: dict[str, Any], scored: ScoredRecordings, figures: Path, run: Path | None
) -> dict[str, Path | None]:
    pictures: dict[str, Path | None] = {}
    macro = metrics["recording"]["macro_f1"]
    if len(scored):
        pictures["confusion"] = confusion_matrix(
            metrics["confusion"], scored.kinds, figures / "confusion.png"
        )
        pictures["f1"] = f1_bars(metrics["kinds"], macro, figures / "f1.png")
    pictures["reliability"] = reliability_diagram(scored, figures / "reliability.png")
    pictures["corruptions"] = corruption_curves(
        metrics["corruptions"], macro, figures / "corruptions.png"
    )
    pictures["embedding"] = embedding_scatter(scored, metrics["gap"], figures / "embedding.png")
    drawing = None if run is None else run / "genotype.png"
    pictures["genotype"] = drawing if drawing is not None and drawing.exists() else None
    pictures["learning"] = learning_curves(read_learning(run), figures / "learning.png")
    return pictures


def _genotype(run: Path | None) -> Genotype | None:
    path = None if run is None else run / GENOTYPE
    return Genotype.load(path) if path is not None and path.exists() else None


def _cards(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the key figures that are known, with their meaning."""
    recording = metrics["recording"]
    figures = {
        "macro-F1": recording["macro_f1"],
        "balanced accuracy": recording["balanced_accuracy"],
        "one-vs-rest AUROC": recording["auroc"],
        "ECE": recording["ece"],
    }
    return [
        {"name": name, "figure": figure, "meaning": MEANING[name]}
        for name, figure in figures.items()
        if figure["value"] is not None
    ]


def _score_names(lists: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the scores that any class has, with their words."""
    present = {name for scores in lists for name in scores}
    return {name: words for name, words in OPEN_SET_SCORES.items() if name in present}


def _case_entry(case: Case, scored: ScoredRecordings) -> dict[str, Any]:
    """Return the template's values of a case, with its picture as a data URI."""
    words = case_words(scored, case.index)
    words["source"] = "/".join(Path(words["source"]).parts[-2:])
    return {**words, "wrong": case.reason == WRONG, "picture": _data_uri(case.png)}


def _data_uri(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"

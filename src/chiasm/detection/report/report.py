"""The report of a detector: one self-contained HTML page."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
from jinja2 import Environment, PackageLoader

from chiasm.detection.decision import AlarmRule
from chiasm.detection.report.curves import (
    learning_curves,
    metric_curves,
    read_histories,
    score_histogram,
)
from chiasm.detection.report.gallery import COLUMNS, Case, draw_gallery, make_cases
from chiasm.detection.report.schema import ImageFigures, validated
from chiasm.detection.report.scored import ScoredSample
from chiasm.detection.report.wording import MEANING, in_words, kind_rows, warnings
from chiasm.errors import DataError
from chiasm.fusion.genotype import Genotype
from chiasm.reporting.cost import cost_rows
from chiasm.reporting.trade_off_section import trade_off_section
from chiasm.runs.evolution_round import PARETO
from chiasm.training.progress import working

JPEG_QUALITY = 88


@working("Writing the report")
def write_report(
    folder: Path,
    *,
    metrics: dict[str, Any],
    scored: Sequence[ScoredSample],
    title: str,
    genotype_svg: str | None,
    genotype_text: str | None,
    notes: Sequence[str],
    facts: Sequence[str] = (),
    repeat: str,
    rule: AlarmRule,
    run: Path | None = None,
    genotype: Genotype | None = None,
) -> Path:
    """Write ``report.html``, ``metrics.json`` and the PNGs of the plots; return the page's path.

    Args:
        folder: where to write.
        metrics: from ``evaluate_scores``; checked against the schema before it is written.
        scored: all samples, including those without a verdict.
        title: the page's heading.
        genotype_svg: drawing of the fusion architecture, if it was searched.
        genotype_text: the architecture as text.
        notes: further warnings.
        facts: how the parts were seen, in sentences that warn of nothing.
        repeat: the command that writes this report.
        rule: of the decisions.
        run: the run's folder, whose ``logs`` hold the learning curves and whose ``pareto.json``
            the trade-offs of the search.
        genotype: of the model, to mark among the trade-offs.

    Raises:
        pydantic.ValidationError: the metrics do not fit the schema.
    """
    figures = folder / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(validated(metrics), indent=2) + "\n")
    cases = make_cases(scored)
    draw_gallery(cases, figures / "gallery.png")
    pictures = {
        "histogram": score_histogram(scored, figures / "scores.png"),
        "curves": metric_curves(scored, metrics, figures / "curves.png"),
        "learning": learning_curves(read_histories(run), figures / "learning.png"),
    }
    trade_offs = None
    try:
        if run is not None:
            trade_offs = trade_off_section(run / PARETO, genotype=genotype, figures=figures)
    except DataError as error:
        notes = [*notes, str(error)]
    # Kinds and paths come from folder names, so all text is escaped.
    environment = Environment(
        loader=PackageLoader("chiasm.reporting"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(
        title=title,
        headline=in_words(metrics, scored, rule),
        cards=_cards(metrics),
        facts=facts,
        warnings=[*notes, *warnings(metrics, scored, rule)],
        metrics=metrics,
        image_rows=ImageFigures.rows(),
        kinds=kind_rows(metrics, scored),
        limits=list(metrics["region"]["aupro"]),
        cost=cost_rows(metrics["cost"]),
        columns=COLUMNS,
        cases=[_case(case) for case in cases],
        pictures={
            name: embedded(path.read_bytes(), "image/png")
            for name, path in pictures.items()
            if path is not None
        },
        trade_offs=trade_offs,
        genotype=_drawing(genotype_svg),
        genotype_text=genotype_text,
        repeat=repeat,
    )
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def _cards(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the key figures that have a value, with their meanings."""
    region = metrics["region"]["aupro"]
    figures = {
        "image AUROC": metrics["image"]["auroc"],
        "pixel AP": metrics["pixel"]["ap"],
        "AUPRO 0.3": region.get("0.3"),
        "AUPRO 0.05": region.get("0.05"),
    }
    return [
        {"name": name, "figure": figure, "meaning": MEANING[name]}
        for name, figure in figures.items()
        if figure is not None and figure["value"] is not None
    ]


def _case(case: Case) -> dict[str, Any]:
    """Return a case for the page, with its picture embedded."""
    ok, encoded = cv2.imencode(
        ".jpg",
        cv2.cvtColor(case.strip, cv2.COLOR_RGB2BGR),
        [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY],
    )
    assert ok
    verdict = case.sample.verdict
    return {
        "kind": case.kind,
        "reason": case.reason,
        "wrong": case.reason in ("missed", "false alarm"),
        "score": verdict.score,
        "p_value": verdict.p_value,
        "source": "/".join(Path(verdict.source).parts[-3:]),
        "picture": embedded(encoded.tobytes(), "image/jpeg"),
    }


def embedded(content: bytes, media: str) -> str:
    """Return a file as an address that holds it."""
    return f"data:{media};base64,{base64.b64encode(content).decode()}"


def _drawing(svg: str | None) -> str | None:
    """Return the drawing as an image, so that its styles and identifiers do not affect the page."""
    return None if svg is None else embedded(svg.encode(), "image/svg+xml")

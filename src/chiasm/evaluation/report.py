"""One self-contained page that says how good a model is, and shows it."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup

from chiasm.evaluation.curves import score_histogram
from chiasm.evaluation.gallery import draw_gallery
from chiasm.evaluation.scored import ScoredSample

MEANING = {
    "image AUROC": "How well scores rank defective parts above good ones; 0.5 is chance.",
    "pixel AP": "How exactly the map marks the defective pixels: precision averaged over recall.",
    "AUPRO 0.3": "How much of each defect is found while at most 30 % of good pixels are marked.",
    "AUPRO 0.05": "The same while at most 5 % of good pixels are marked: the stricter figure.",
}


def write_report(
    folder: Path,
    *,
    metrics: dict[str, Any],
    scored: Sequence[ScoredSample],
    title: str,
    genotype_svg: str | None,
    genotype_text: str | None,
    notes: Sequence[str],
    repeat: str,
    false_alarm_rate: float,
) -> Path:
    """Write ``report.html``, ``metrics.json`` and the figures' PNGs; returns the page's path."""
    figures = folder / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    pictures = {
        "histogram": score_histogram(scored, figures / "scores.png"),
        "gallery": draw_gallery(scored, figures / "gallery.png"),
    }
    environment = Environment(
        loader=PackageLoader("chiasm.evaluation"), autoescape=select_autoescape()
    )
    page = environment.get_template("report.html.j2").render(
        title=title,
        headline=in_words(metrics, scored, false_alarm_rate),
        cards=_cards(metrics),
        warnings=[*notes, *warnings(metrics)],
        metrics=metrics,
        pictures={name: _embedded(path) for name, path in pictures.items() if path is not None},
        genotype_svg=_inline_svg(genotype_svg),
        genotype_text=genotype_text,
        repeat=repeat,
    )
    path = folder / "report.html"
    path.write_text(page)
    return path


def in_words(
    metrics: dict[str, Any], scored: Sequence[ScoredSample], false_alarm_rate: float
) -> str:
    """The verdict in one sentence."""
    judged = [s for s in scored if not s.verdict.error]
    bad = [s for s in judged if s.sample.label == 1]
    good = [s for s in judged if s.sample.label == 0]
    found = sum(bool(s.verdict.defective) for s in bad)
    false = sum(bool(s.verdict.defective) for s in good)
    return (
        f"Found {found} of {len(bad)} defective parts, with {false} false alarm"
        f"{'' if false == 1 else 's'} among {len(good)} good ones, at a promised false-alarm rate "
        f"of {false_alarm_rate:.0%}."
    )


def warnings(metrics: dict[str, Any]) -> list[str]:
    """What a reader must know before believing the figures."""
    found = []
    ours = metrics["image"]["auroc"]["value"]
    trivial = metrics["trivial"]["image"]
    if trivial and ours is not None:
        name = max(trivial, key=lambda n: trivial[n]["value"] or 0)
        best = trivial[name]["value"]
        if best is not None and best > 0.8:
            relation = "better than the model" if best >= ours else "close to the model"
            found.append(
                f"The {name} alone, without any model, separates good from bad with an AUROC of "
                f"{best:.3f} ({relation}: {ours:.3f}). Believe the pixel figures rather than the "
                "image figures on these data."
            )
    outline = metrics["trivial"]["pixel"]
    if outline:
        plain = outline["aupro"]["0.3"]["value"]
        model = metrics["region"]["aupro"]["0.3"]["value"]
        if plain is not None and model is not None and plain > 0.8:
            found.append(
                f"The object's outline alone, used as a map, has an AUPRO(0.3) of {plain:.3f} "
                f"(model: {model:.3f}). AUPRO(0.05) and pixel AP tell more here."
            )
    return found


def _cards(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    region = metrics["region"]["aupro"]
    chosen = {
        "image AUROC": metrics["image"]["auroc"],
        "pixel AP": metrics["pixel"]["ap"],
        "AUPRO 0.3": region.get("0.3"),
        "AUPRO 0.05": region.get("0.05"),
    }
    return [
        {"name": name, "figure": figure, "meaning": MEANING[name]}
        for name, figure in chosen.items()
        if figure is not None and figure["value"] is not None
    ]


def _embedded(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def _inline_svg(text: str | None) -> Markup | None:
    """The drawing without its XML prologue; it is our own file, not a visitor's."""
    return None if text is None else Markup(text[text.index("<svg") :])

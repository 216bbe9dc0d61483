"""How a verdict and a diagnosis show themselves: HTML for a notebook, figures by matplotlib.

Both records stand above this module and call it, so that its arguments have no type of theirs.
"""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from chiasm.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GOOD, _BAD, _QUIET = "#3b7ea1", "#c4501b", "#8c979f"  # told apart with any colour vision
_BOX = "#7fd6ff"  # on the colours of the map
_PLOTS, _MAPS = (".png", ".svg", ".pdf", ".jpg"), (".npy", ".tiff", ".tif")
_CARD = "font-family:sans-serif;border:1px solid #d5dade;border-radius:6px;padding:12px;"
_WIDTH = 320  # pixels of the heat map in a notebook


def verdict_html(verdict: Any) -> str:
    """Return decision, score, p-value and heat map of a part as HTML."""
    words, colour = _decision(verdict)
    rows = _rows({"score": f"{verdict.score:.4g}", "p-value": f"{verdict.p_value:.3g}"})
    picture = ""
    if verdict.anomaly_map is not None:
        done, content = cv2.imencode(".png", _heat(verdict)[..., ::-1])
        assert done
        data = base64.b64encode(content.tobytes()).decode("ascii")
        picture = (
            f'<img alt="heat map of the anomaly scores" width="{_WIDTH}" '
            f'style="margin-top:8px;border-radius:4px" src="data:image/png;base64,{data}">'
        )
    return _card(words, colour, rows + picture, verdict.source, verdict.error, verdict.notes)


def diagnosis_html(diagnosis: Any) -> str:
    """Return class, probabilities and uncertainty of a recording as HTML."""
    bars = "".join(
        f'<tr><td style="text-align:left">{html.escape(kind)}</td>'
        f'<td style="width:160px"><div style="background:{_GOOD};height:10px;'
        f'width:{100 * probability:.1f}%"></div></td><td>{probability:.3f}</td></tr>'
        for kind, probability in diagnosis.probabilities.items()
    )
    table = f"<table>{bars}</table>" if bars else ""
    facts = {
        "uncertainty": diagnosis.uncertainty,
        "conflict": diagnosis.conflict,
        "distance": diagnosis.distance,
        "limit of the distance": diagnosis.distance_limit,
    }
    rows = _rows({name: f"{x:.3g}" for name, x in facts.items() if not math.isnan(x)})
    words = diagnosis.kind or "no diagnosis"
    colour = _QUIET if diagnosis.kind in (None, "unknown") else _GOOD
    return _card(words, colour, table + rows, diagnosis.source, diagnosis.error, diagnosis.notes)


def verdict_figure(verdict: Any) -> Figure:
    """Draw the anomaly map of a part with its decision as title."""
    figure, axes = _axes(4.2, 4.2)
    words, colour = _decision(verdict)
    if verdict.anomaly_map is not None:
        outside = ~verdict.anomaly_map.foreground
        scores = np.ma.masked_array(verdict.anomaly_map.scores, outside)
        figure.colorbar(axes.imshow(scores, cmap="inferno"), ax=axes, shrink=0.8, label="score")
        for region in verdict.regions:
            _frame(axes, region)
    axes.set_axis_off()
    axes.set_title(f"{words}, p = {verdict.p_value:.3g}", color=colour, fontsize=11)
    return figure


def diagnosis_figure(diagnosis: Any) -> Figure:
    """Draw the probabilities of a recording's classes, of all modalities and of each alone."""
    figure, axes = _axes(5.2, 0.4 * len(diagnosis.probabilities) + 1.2)
    kinds = list(diagnosis.probabilities)
    rows = np.arange(len(kinds))
    axes.barh(rows, list(diagnosis.probabilities.values()), color=_GOOD, label="all modalities")
    for marker, (modality, opinion) in zip("o^sD", diagnosis.opinions.items()):
        values = [opinion[kind] for kind in kinds]
        axes.plot(values, rows, marker, color="#1d2429", label=modality, clip_on=False)
    axes.set_yticks(rows, kinds)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("probability")
    axes.set_title(diagnosis.kind or "no diagnosis", fontsize=11)
    if kinds:
        axes.legend(fontsize=8, frameon=False)
    return figure


def plain(record: Any, *, without: str = "") -> dict[str, Any]:
    """Return a record as JSON can hold it: NaN and infinity are None, tuples are lists.

    Args:
        record: a data class of numbers, texts, sequences and mappings.
        without: name of a field to leave out, also of records inside.
    """
    named = {field.name: getattr(record, field.name) for field in fields(record)}
    return {name: _plain(value, without) for name, value in named.items() if name != without}


def _plain(value: Any, without: str) -> Any:
    if is_dataclass(value):
        return plain(value, without=without)
    if isinstance(value, Mapping):
        return {str(name): _plain(content, without) for name, content in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item, without) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def save(record: Any, path: Path, *, scores: Any = None) -> Path:
    """Write a verdict or a diagnosis to a file of the kind that the suffix says.

    Args:
        record: with ``plot`` and ``to_dict``.
        path: of the file; its folder is made.
        scores: ``(H, W)`` raw map of a verdict; None without.

    Raises:
        ConfigurationError: there is no such kind.
        DataError: a map was asked for, and there is none.
    """
    suffix = path.suffix.lower()
    known = (*_PLOTS, ".json", *(_MAPS if hasattr(record, "anomaly_map") else ()))
    if suffix not in known:
        raise ConfigurationError(
            f"{path} ends in {suffix!r}, by which it is chosen what is written; end it in one of "
            f"{', '.join(known)}."
        )
    if suffix in _MAPS and scores is None:
        raise DataError(f"{record.source or 'This part'} has no map to save: {record.error}")
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix == ".json":
        path.write_text(json.dumps(record.to_dict(), indent=2, allow_nan=False) + "\n")
    elif suffix == ".npy":
        np.save(path, scores)
    elif suffix in _MAPS:
        import tifffile

        tifffile.imwrite(path, scores, compression="zlib", photometric="minisblack")
    else:
        record.plot().savefig(path, dpi=150)
    return path


def _frame(axes: Any, region: Any) -> None:
    """Draw the box of a region, around its pixels."""
    from matplotlib.patches import Rectangle

    left, top, width, height = region.box
    box = Rectangle((left - 0.5, top - 0.5), width, height, fill=False, edgecolor=_BOX)
    axes.add_patch(box)


def _axes(width: float, height: float) -> tuple[Figure, Any]:
    try:
        from matplotlib.figure import Figure  # slow to import, and not part of a station
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "A plot needs matplotlib, which is not installed: pip install matplotlib, or "
            "'chiasm[train]'."
        ) from error

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _decision(verdict: Any) -> tuple[str, str]:
    if verdict.defective is None:
        return ("not examined" if verdict.error else "undecided"), _QUIET
    return ("defective", _BAD) if verdict.defective else ("good", _GOOD)


def _heat(verdict: Any) -> np.ndarray:
    """Return ``(H, W, 3)`` uint8 RGB: scores up to the largest, grey outside the object."""
    assert verdict.anomaly_map is not None
    scores, inside = verdict.anomaly_map.scores, verdict.anomaly_map.foreground
    top = float(scores.max(initial=0.0)) or 1.0
    grey = np.clip(255 * scores / top, 0, 255).astype(np.uint8)
    heat = cv2.applyColorMap(grey, cv2.COLORMAP_INFERNO)[..., ::-1]
    return np.where(inside[..., None], heat, np.uint8(235))


def _rows(facts: Mapping[str, str]) -> str:
    cells = "".join(
        f'<span style="margin-right:16px"><span style="color:{_QUIET}">{name}</span> {value}</span>'
        for name, value in facts.items()
    )
    return f'<div style="margin-top:6px">{cells}</div>'


def _card(
    words: str, colour: str, body: str, source: str, error: str, notes: tuple[str, ...]
) -> str:
    texts = [text for text in (error, *notes) if text]
    remarks = "".join(f'<div style="color:{_BAD}">{html.escape(text)}</div>' for text in texts)
    return (
        f'<div style="{_CARD}display:inline-block">'
        f'<div style="font-size:18px;font-weight:600;color:{colour}">{html.escape(words)}</div>'
        f'<div style="color:{_QUIET};font-size:12px">{html.escape(source)}</div>'
        f"{remarks}{body}</div>"
    )

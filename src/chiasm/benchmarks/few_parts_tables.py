"""Tables of few normal parts: of the 3D-ADNAS paper, its supplement, and our own."""

from __future__ import annotations

from typing import Any

from chiasm.benchmarks.asked import METHODS, TRIVIAL, Asked, built, printed
from chiasm.benchmarks.captions import FIGURES, IMAGE, NOT_THERE, PIXEL, REGION, source_of
from chiasm.benchmarks.table import Entry, Table


def _few(
    name: str,
    title: str,
    asked: Asked,
    rows: dict[str, tuple[str, str]],
    folders: dict[str, Any],
) -> Table:
    """Rows: label to method and figure; columns: numbers of parts, averaged over ``folders``."""
    values = printed().get(name, {})
    entries = []
    for row, (label, figure) in rows.items():
        if not built(label) or not asked.wants(label):
            continue
        for shots in (*asked.shots, None):
            column = "all" if shots is None else str(shots)
            cells = tuple(
                cell
                for folder in folders.values()
                for cell in asked.cells(
                    label, folder, **({} if shots is None else {"shots": shots})
                )
            )
            value = values.get(row, {}).get(column)
            entries.append(Entry(row, column, figure, cells, value))
    return Table(name, title, tuple(entries), source_of(name), "normal parts to learn from")


def table6(asked: Asked) -> Table:
    """Few parts, Eyecandies: three figures of our method."""
    rows = {k: ("3D-ADNAS", FIGURES[k]) for k in ("image AUROC", "pixel AUROC", "AUPRO(0.3)")}
    return _few("table6", "Few normal parts (Eyecandies)", asked, rows, dict(asked.categories))


def table7(asked: Asked) -> Table:
    """Few parts, MVTec 3D-AD: image AUROC of four methods."""
    rows = {label: (label, IMAGE) for label in printed()["table7"]}
    return _few("table7", "Few normal parts (MVTec 3D-AD)", asked, rows, dict(asked.categories))


def few_shot(asked: Asked) -> Table:
    """Few parts, every method, on whatever data there are."""
    rows = {label: (label, IMAGE) for label in METHODS if label not in TRIVIAL}
    return _few("few_shot", "Image AUROC from few parts", asked, rows, dict(asked.categories))


def _few_by_category(name: str, title: str, figure: str, asked: Asked) -> Table:
    values = printed()[name]
    entries = []
    for row, columns in values.items():
        shots = None if row.startswith("all") else int(row.split()[0])
        more = {} if shots is None else {"shots": shots}
        for column, value in columns.items():
            folder = asked.folder(column)
            cells = () if folder is None else asked.cells("3D-ADNAS", folder, **more)
            entries.append(Entry(row, column, figure, cells, value, "" if cells else NOT_THERE))
    return Table(name, title, tuple(entries), source_of(name))


def supp3(asked: Asked) -> Table:
    """Few parts, image AUROC by category of Eyecandies."""
    return _few_by_category("supp3", "Few parts: image AUROC on Eyecandies", IMAGE, asked)


def supp4(asked: Asked) -> Table:
    """Few parts, pixel AUROC by category of Eyecandies."""
    return _few_by_category("supp4", "Few parts: pixel AUROC on Eyecandies", PIXEL, asked)


def supp5(asked: Asked) -> Table:
    """Few parts, AUPRO by category of Eyecandies."""
    return _few_by_category("supp5", "Few parts: AUPRO(0.3) on Eyecandies", REGION, asked)


def supp6(asked: Asked) -> Table:
    """Few parts, image AUROC by category of MVTec 3D-AD."""
    return _few_by_category("supp6", "Few parts: image AUROC on MVTec 3D-AD", IMAGE, asked)

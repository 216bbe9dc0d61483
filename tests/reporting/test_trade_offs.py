"""What a report and a console show of the trade-offs of a search."""

from __future__ import annotations

import json
import math
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment, PackageLoader
from matplotlib.figure import Figure
from typer.testing import CliRunner

from chiasm.cli.main import app
from chiasm.errors import DataError
from chiasm.fusion.genotype import Genotype
from chiasm.reporting.trade_off_section import trade_off_section
from chiasm.reporting.trade_offs import TradeOffs, read_trade_offs, remarks, rows

MAPS = [f"{sensor}/{name}" for sensor in ("rgb", "geometry") for name in ("f4", "f8", "distance")]
NODE = {"inputs": ["x", "y"], "operation": "glu"}


def join(*inputs: str) -> dict[str, Any]:
    return {"late": {"inputs": list(inputs), "nodes": []}}


def judged(cells: dict[str, Any], ap: float, ms: float, mb: float) -> dict[str, Any]:
    costs = {"milliseconds": ms, "megabytes": mb}
    return {"validation_ap": ap, "ap:scar": ap, **costs, "cells": cells}


def finalist(row: dict[str, Any], ap: float, steps: int) -> dict[str, Any]:
    figures = {k: v for k, v in row.items() if k != "cells"}
    return {
        **figures,
        "validation_ap": ap,
        "steps": steps,
        "judged": figures,
        "cells": row["cells"],
    }


def content() -> dict[str, Any]:
    early = {"early": {"inputs": ["rgb/f4", "geometry/f4"], "nodes": [NODE]}}
    late = {"inputs": ["rgb/f8", "rgb/distance", "cell:early"], "nodes": []}
    every = [
        judged(join(*MAPS), 0.8, 30.0, 9.0),
        judged(join("rgb/f4", "geometry/f4"), 0.5, 10.0, 4.0),
        judged({**early, "late": late}, 0.7, 20.0, 6.0),
        judged(join("rgb/f8", "geometry/distance"), 0.6, 25.0, 6.0),
        judged(join("rgb/distance", "geometry/distance"), math.nan, 50.0, 12.0),
    ]
    return {
        "schema": "chiasm.pareto",
        "version": 1,
        "metric": "validation_ap",
        "costs": {"runtime": "openvino fp32", "threads": 2, "image_size": 64, "pieces": {}},
        "budgets": {"milliseconds": 40.0, "megabytes": None},
        "chosen": 2,
        "finalists": [
            finalist(every[0], 0.82, 40),
            finalist(every[1], 0.55, 20),
            finalist(every[2], 0.81, 40),
            finalist(every[3], 0.6, 20),
        ],
        "judged": every,
    }


def written(tmp_path: Path, **changes: Any) -> Path:
    path = tmp_path / "pareto.json"
    path.write_text(json.dumps(content() | changes))
    return path


def opened(tmp_path: Path, **changes: Any) -> TradeOffs:
    trade_offs = read_trade_offs(written(tmp_path, **changes))
    assert trade_offs is not None
    return trade_offs


def page_of(path: Path, tmp_path: Path, genotype: Genotype | None = None) -> str:
    environment = Environment(loader=PackageLoader("chiasm.reporting"), autoescape=True)
    section = trade_off_section(path, genotype=genotype, figures=tmp_path)
    return environment.get_template("trade_offs.html.j2").render(trade_offs=section)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures that are noted instead of rendered, which takes long."""
    figures: list[Figure] = []

    def note(figure: Figure, path: Path, **_: Any) -> None:
        figures.append(figure)
        path.write_bytes(b"")

    monkeypatch.setattr(Figure, "savefig", note)
    return figures


def test_finalists_are_numbered_from_the_fastest(tmp_path):
    found = opened(tmp_path)
    assert [a.milliseconds for a in found.finalists] == [10, 20, 25, 30]
    assert found.finalists[found.chosen].figure == 0.81
    shown = rows(found, used=found.chosen)
    assert [row["number"] for row in shown] == ["1", "2", "3", "4"]
    assert [row["figure"] for row in shown] == ["0.550", "0.810", "0.600", "0.820"]
    assert [row["marks"] for row in shown] == ["", "chosen", "", "hand-made"]
    assert shown[1]["fusion"] == "early cell, join of 3"
    assert shown[1]["reads"] == "rgb: f4, f8, distance; geometry: f4"
    assert shown[1]["steps"] == "40"


def test_the_front_holds_what_no_other_finalist_beats(tmp_path):
    found = opened(tmp_path)
    for cost in ("milliseconds", "megabytes"):
        points = [(a.figure, getattr(a, cost)) for a in found.finalists]
        beaten = {
            n
            for n, (figure, spent) in enumerate(points)
            for other, less in points
            if other >= figure and less <= spent and (other, less) != (figure, spent)
        }
        assert found.front(cost) == [n for n in range(4) if n not in beaten]


def test_a_finalist_without_a_training_of_its_own_has_no_figure(tmp_path):
    finalists = content()["finalists"]
    finalists[0] = {k: finalists[0][k] for k in ("judged", "cells")}
    found = opened(tmp_path, finalists=finalists)
    assert rows(found, used=None)[3]["figure"] == "\N{EN DASH}"
    assert rows(found, used=None)[3]["ms"] == "30.0"
    assert 3 not in found.front("milliseconds")
    assert trade_off_section(tmp_path / "pareto.json", genotype=None, figures=tmp_path)


def test_the_remarks_count_what_is_beyond_the_budget(tmp_path):
    text = " ".join(remarks(opened(tmp_path), used=1))
    assert "judged 4 architectures" in text and "40 ms; 1 architectures exceeded it" in text
    assert "hand-made" not in text
    beyond = content()["judged"]
    beyond[0]["validation_ap"] = math.nan
    kept = content()["finalists"][1:]
    found = opened(tmp_path, judged=beyond, finalists=kept, chosen=1)
    assert "it takes 30.0 ms and 9.0 MB" in " ".join(remarks(found, used=1))
    assert not any("hand-made" in row["marks"] for row in rows(found, used=1))


def test_the_page_marks_the_fusion_that_the_model_has(tmp_path, drawn):
    path = written(tmp_path)
    found = opened(tmp_path)
    for number, said in ((1, ""), (3, "chose finalist 2; the model of this page has the fusion")):
        page = page_of(path, tmp_path, found.finalists[number].genotype)
        marked = [line for line in page.splitlines() if 'class="us"' in line]
        assert len(marked) == 1 and f">{number + 1}&ensp;" in marked[0]
        assert said in page
    other = Genotype.from_json(
        found.finalists[0].genotype.to_json().replace("rgb/f4", "rgb/distance")
    )
    assert "none of these fusions" in page_of(path, tmp_path, other)


def test_the_plot_has_a_panel_for_megabytes_where_they_have_a_budget(tmp_path, drawn):
    for budgets in ({}, {"milliseconds": 40.0, "megabytes": 10.0}):
        page_of(written(tmp_path, budgets=budgets), tmp_path)
    labels = [[axes.get_xlabel() for axes in figure.axes] for figure in drawn]
    assert labels == [["milliseconds a part"], ["milliseconds a part", "megabytes"]]


def test_a_search_without_costs_has_a_table_and_no_plot(tmp_path):
    every = content()
    for row in [*every["judged"], *every["finalists"], *(f["judged"] for f in every["finalists"])]:
        row.pop("milliseconds"), row.pop("megabytes")
    budgets = {"milliseconds": None, "megabytes": None}
    path = written(tmp_path, **{**every, "costs": None, "budgets": budgets})
    page = page_of(path, tmp_path)
    assert "<img" not in page and "0.820" in page and "nan" not in page
    assert "measured" not in page
    found = read_trade_offs(path)
    assert found is not None and found.finalists[found.chosen].figure == 0.81


def test_names_from_a_file_are_only_text(tmp_path, drawn):
    text = written(tmp_path).read_text().replace("rgb/f8", "rgb/<script>")
    (tmp_path / "pareto.json").write_text(text)
    assert "<script>" not in page_of(tmp_path / "pareto.json", tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"schema": "other"},
        {"chosen": 9},
        {"judged": []},
        {"metric": "other"},
        {"finalists": [{"cells": {}}]},
        {"finalists": [{"judged": content()["judged"][0], "cells": {"late": {"inputs": []}}}]},
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_a_remedy(tmp_path, change):
    with pytest.raises(DataError, match=r"pareto\.json .*Search again"):
        read_trade_offs(written(tmp_path, **change))


def test_damaged_text_is_refused_and_no_file_is_none(tmp_path):
    (tmp_path / "pareto.json").write_text("{")
    with pytest.raises(DataError, match="pareto"):
        read_trade_offs(tmp_path / "pareto.json")
    assert read_trade_offs(tmp_path / "nothing.json") is None


@pytest.mark.parametrize("evolved", [True, False])
def test_the_search_ends_with_a_table_of_the_finalists(tmp_path, monkeypatch, evolved):
    run = tmp_path / "run"
    run.mkdir()
    asked: dict[str, Any] = {}

    def search(**settings: Any) -> None:
        asked.update(deepcopy(settings))
        if evolved:
            written(run)

    monkeypatch.setattr("chiasm.api.search", search)
    monkeypatch.setenv("COLUMNS", "100")
    done = CliRunner().invoke(app, ["search", "--data", "d", "--out", str(run), "--budget-ms", "9"])
    assert done.exit_code == 0, done.output
    assert asked["overrides"] == ["search.budget_ms=9.0"]
    lines = [line.split() for line in done.stdout.splitlines()]
    chosen = ["2", "early", "cell,", "join", "of", "3", "0.810", "20.0", "6.0", "40", "chosen"]
    assert (chosen in lines) == evolved
    assert ("pareto.json" in done.stdout) == evolved

"""Tables as data: what the paper prints, which runs stand behind an entry, and how it is shown."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
from typer.testing import CliRunner

import chiasm.detection.models.named  # noqa: F401  (importing registers the methods)
from chiasm.benchmarks.detection import (
    METHODS,
    DetectionSuite,
    _methods,
    categories_under,
    check_methods,
    is_full_size,
    printed,
    run_label,
)
from chiasm.benchmarks.detection_figures import IMAGE
from chiasm.benchmarks.detection_tables import TABLES, describe
from chiasm.benchmarks.figure_drawing import draw_overview
from chiasm.benchmarks.render import markdown, write
from chiasm.benchmarks.run_trial import check_code, evaluate
from chiasm.benchmarks.store import Result, ResultStore
from chiasm.benchmarks.table import (
    NOT_RUN,
    STEPS,
    Entry,
    Filled,
    Table,
    figure,
    fill,
    marks,
    steps_in_words,
)
from chiasm.benchmarks.trial import (
    WORKFLOWS,
    Trial,
    code_fingerprint,
    data_signature,
    fingerprint_of,
    unlabelled_baselines,
)
from chiasm.cli.main import app
from chiasm.errors import ConfigurationError, DataError

FACTS = {"command": "chiasm bench", "commit": "abc", "machine": "one"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("cable_gland", "bagel", "CandyCane"):
        (tmp_path / "data" / name / "train").mkdir(parents=True)
        (tmp_path / "data" / name / "train" / "a.txt").write_text(name)
    return tmp_path / "data"


def metrics(value, low=None, high=None):
    return {"image": {"auroc": {"value": value, "low": low, "high": high}}}


@pytest.mark.parametrize("name", TABLES)
def test_every_table_is_described(name, root):
    table = describe(name, DetectionSuite(categories=categories_under(root), seeds=(0, 1)))
    assert table.name == name
    assert table.entries
    assert any(entry.trials for entry in table.entries)
    empty = [entry for entry in table.entries if not entry.trials]
    assert all(entry.why_empty or entry.printed is not None for entry in empty)


@pytest.mark.parametrize("name", TABLES)
def test_a_row_is_named_by_what_ran_and_printed_values_stand_apart(name, root):
    suite = DetectionSuite(categories=categories_under(root), settings={"image_size": 128})
    table = describe(name, suite)
    for entry in table.entries:
        if entry.trials:
            assert entry.printed is None
            assert "(printed)" not in entry.row
            label = entry.row.rpartition(": ")[2].rpartition(" / ")[2]
            assert label in {run_label(trial.settings) for trial in entry.trials}
            assert "128 px" in label
        elif entry.printed is not None:
            assert entry.row.endswith("(printed)")
    full = {row for row in table.rows if "width 128, 256 px" in row}
    assert full
    assert {e.why_empty for e in table.entries if e.row in full} == {NOT_RUN}


def test_a_reduced_size_does_not_bear_the_name_of_the_paper(root):
    rows = describe("table3", DetectionSuite(categories=categories_under(root))).rows
    assert [row for row in rows if row.startswith("RGB + 3D") and "EasyNet" in row] == [
        "RGB + 3D / EasyNet (printed)"
    ]
    assert "RGB + 3D / easynet_slim, width 16, 192 px, 180 epochs" in rows
    assert "RGB + 3D / easynet, width 128, 256 px, 770 epochs" in rows
    assert "RGB + 3D / adnas_light, frozen features, 256 px, 30 epochs" in rows
    assert "RGB + 3D / adnas_paper, width 128, 256 px, 600 epochs" in rows


def test_full_size_is_run_where_it_is_named_and_told_apart_from_less(root):
    categories = categories_under(root, ("bagel",))
    suite = DetectionSuite(categories=categories, methods=("adnas_paper",))
    (trial,) = describe("fig5", suite).trials
    assert trial.settings["preset"] == "paper"
    less = describe("fig5", replace(suite, settings={"image_size": 64, "train_epochs": 2}))
    assert "adnas_paper, width 128, 64 px, 2 epochs" in less.rows
    blank = "adnas_paper, width 128, 256 px, 600 epochs"
    assert all(not e.trials for e in less.entries if e.row == blank)
    assert blank in less.rows


def test_the_searched_model_and_its_search_are_settings(root):
    settings = {"model": "adnas_slim", "train_epochs": 3, "search.epochs": 2}
    suite = DetectionSuite(categories=categories_under(root, ("bagel",)), settings=settings)
    table = describe("table4", suite)
    assert len(table.trials) == 7
    assert {t.settings["model"] for t in table.trials} == {"adnas_slim"}
    assert {t.settings["train_epochs"] for t in table.trials} == {3}
    assert {t.settings["search.epochs"] for t in table.trials} == {2}
    assert "early: adnas_slim, width 16, 192 px, 3 epochs" in table.rows
    baselines = {t.method for t in describe("rivals", suite).trials}
    assert {"btf", "easynet_slim", "adnas_slim"} <= baselines
    with pytest.raises(ConfigurationError, match="chosen by --methods btf"):
        describe("table4", replace(suite, settings={"model": "btf"}))


def test_figure_4b_compares_the_first_two_layers_with_all(root):
    table = describe("fig4b", DetectionSuite(categories=categories_under(root, ("bagel",))))
    assert [t.settings["middle_scales"] for t in table.trials] == [[2, 3], [2, 3, 4]]
    assert {t.settings["model"] for t in table.trials} == {"adnas_slim"}
    settings = {"model": "adnas_light"}
    with pytest.raises(ConfigurationError, match="leave out middle_scales"):
        suite = DetectionSuite(categories=categories_under(root), settings=settings)
        describe("fig4b", suite)


@pytest.mark.parametrize("name", ["table4", "fig4a", "fig4b", "fig4c", "fusions", "fig1"])
def test_variants_are_compared_at_equal_steps_and_never_by_minutes(name, root):
    suite = DetectionSuite(categories=categories_under(root))
    assert any(entry.figure == STEPS for entry in describe(name, suite).entries)
    for more in ({"minutes": 3.0}, {"settings": {"minutes": 3.0}}):
        with pytest.raises(ConfigurationError, match="equal steps of training"):
            describe(name, replace(suite, **more))


def test_unequal_steps_are_told_by_category():
    def made(row, column, steps, low=None, high=None):
        return Filled(Entry(row, column, STEPS), steps, low, high)

    equal = [made(r, c, n) for r in "ab" for c, n in (("bagel, steps", 40), ("rope, steps", 60))]
    assert "bagel, steps: 40 in every run. rope, steps: 60 in every run" in steps_in_words(equal)
    assert "unequal" in steps_in_words([*equal, made("c", "rope, steps", 50)])
    assert "unequal" in steps_in_words([*equal, made("c", "rope, steps", 60, 50, 70)])
    assert steps_in_words([Filled(Entry("a", "x", IMAGE), 0.5)]) == ""


def test_tables_test_every_part_under_every_lamp(tmp_path):
    data = tmp_path / "data" / "Sweet" / "test_public" / "data"
    data.mkdir(parents=True)
    for part in ("000", "001"):
        names = [f"{part}_image_{lamp}.png" for lamp in range(6)]
        for name in (*names, f"{part}_depth.png", f"{part}_info_depth.yaml"):
            (data / name).write_bytes(b"")
    suite = DetectionSuite(categories={"Sweet": tmp_path / "data" / "Sweet"})
    table = describe("rivals", suite)
    assert {trial.settings["lamp"] for trial in table.trials} == {"all"}
    assert any("each test part under 6 lamps, 12 images" in note for note in table.notes)
    one = describe("rivals", replace(suite, settings={"lamp": 3}))
    assert {trial.settings["lamp"] for trial in one.trials} == {3}
    assert any("2 test images, all under lamp 3" in note for note in one.notes)


def test_the_model_says_under_which_lamps_its_run_is_tested(tmp_path, monkeypatch):
    tested: list[object] = []
    monkeypatch.setattr("chiasm.api.evaluate", lambda *_, **options: tested.append(options))
    description = {"report": str(tmp_path / "report"), "wing": "detector", "evaluation": {}}
    evaluate(description | {"folder": str(tmp_path)}, tmp_path)
    assert "lamp" not in tested[0]


def filled_overview(root):
    table = describe("fig1", DetectionSuite(categories=categories_under(root, ("bagel",))))
    filled = []
    for number, entry in enumerate(table.entries):
        value = 0.5 + number % 40 / 100 if entry.trials else None
        filled.append(Filled(entry, value))
    return table, filled


def test_figure_1_shows_both_levels_and_the_methods(root, tmp_path):
    table, filled = filled_overview(root)
    picture, facts = draw_overview(table, filled, ResultStore(tmp_path))
    spread = facts["spread"]
    assert spread["inter-module"]["variants"] == spread["inter-module, printed"]["variants"] == 7
    assert spread["inter-module, printed"]["low"] == 0.664
    assert spread["intra-module"]["variants"] == 9
    words = [text.get_text() for text in picture.axes[1].texts]
    assert "M3DM (printed)" in words
    assert "btf, efficientnet_lite0, 256 px" in words
    page = write(table, filled, tmp_path, FACTS, drawn=(picture, facts))
    assert json.loads(page.with_suffix(".json").read_text())["spread"] == spread
    assert page.with_suffix(".png").stat().st_size > 1000


def test_printed_values_are_those_of_the_paper():
    values = printed()
    assert values["table3"]["RGB + 3D / 3D-ADNAS"]["Mean"] == 0.951
    assert values["table1"]["RGB + 3D / CFM"]["Candy Cane"] == 0.68
    assert values["table4"]["middle"]["Potato"] == 0.74
    assert values["supp2"]["RGB + 3D / 3D-ST"]["Tire"] == 0.542
    assert values["supp6"]["5 parts"]["Rope"] == 0.977
    assert values["table5"]["M3DM"]["memory, MB"] == 6526.12


def test_a_category_is_found_by_the_papers_name_and_others_stay_empty(root):
    table = describe("table3", DetectionSuite(categories=categories_under(root)))
    found = {(e.row, e.column): e for e in table.entries}
    entry = found["RGB + 3D / btf, efficientnet_lite0, 256 px", "Cable Gland"]
    assert [trial.data.name for trial in entry.trials] == ["cable_gland"]
    assert found["RGB + 3D / BTF (printed)", "Cable Gland"].printed == 0.765
    assert (
        found["RGB + 3D / btf, efficientnet_lite0, 256 px", "Rope"].why_empty
        == "the category is not among the data"
    )
    assert (
        "mean over fewer" in found["RGB + 3D / btf, efficientnet_lite0, 256 px", "Mean"].why_empty
    )


def test_few_parts_are_drawn_anew_for_each_seed_and_alike_for_the_same(root):
    suite = DetectionSuite(
        categories=categories_under(root, ("bagel",)), seeds=(0, 1, 2), shots=(5,)
    )
    table = describe("few_shot", suite)
    entry = next(e for e in table.entries if e.row.startswith("btf") and e.column == "5")
    assert [trial.settings["seed"] for trial in entry.trials] == [0, 1, 2]
    assert {trial.settings["shots"] for trial in entry.trials} == {5}
    assert len({trial.key for trial in entry.trials}) == 3
    assert [c.key for c in entry.trials] == [
        c.key
        for c in next(
            e
            for e in describe("few_shot", suite).entries
            if e.row.startswith("btf") and e.column == "5"
        ).trials
    ]


def test_what_does_not_exist_is_told(root, tmp_path):
    with pytest.raises(ConfigurationError, match="There is no table 'table9'"):
        describe("table9", DetectionSuite(categories=categories_under(root)))
    with pytest.raises(ConfigurationError, match="There is no method 'padim'"):
        check_methods(("padim",))
    with pytest.raises(DataError, match="There is no category 'rope'"):
        categories_under(root, ("rope",))
    with pytest.raises(DataError, match="holds no category"):
        categories_under(root / "bagel" / "train")
    with pytest.raises(DataError, match="does not exist"):
        categories_under(tmp_path / "nowhere")


def test_methods_can_be_named_as_in_tables_or_as_models(root):
    for name in ("CFM", "crossmodal_mapping", "Crossmodal mapping"):
        check_methods((name,))
        table = describe(
            "rivals", DetectionSuite(categories=categories_under(root), methods=(name,))
        )
        assert {trial.method for trial in table.trials} == {"crossmodal_mapping"}


def test_a_bank_gets_its_budget_and_a_run_its_minutes(root):
    suite = DetectionSuite(categories=categories_under(root), bank_mb=7.0, minutes=2.0)
    trials = {trial.method: trial for trial in describe("rivals", suite).trials}
    assert trials["btf"].settings["options"] == {"bank_mb": 7.0}
    assert "options" not in trials["ast"].settings
    assert trials["ast"].settings["minutes"] == 2.0


def test_a_trials_name_depends_on_settings_and_data(root):
    one = Trial("detector", root / "bagel", {"model": "btf", "seed": 0})
    same = Trial("detector", root / "bagel", {"seed": 0, "model": "btf"})
    assert one.key == same.key
    assert one.key != Trial("detector", root / "bagel", {"model": "btf", "seed": 1}).key
    assert one.key != Trial("detector", root / "cable_gland", {"model": "btf", "seed": 0}).key
    before = one.key
    (root / "bagel" / "train" / "b.txt").write_text("more")
    data_signature.cache_clear()
    assert one.key != before


def test_the_codes_fingerprint_is_of_what_the_method_imports(tmp_path, monkeypatch):
    import chiasm.benchmarks.trial as module

    names = {
        "m.method": "from m.part import thing\n",
        "m.part": "thing = 1\n",
        "m.other": "x = 1\n",
    }
    for name, text in names.items():
        (tmp_path / f"{name}.py").write_text(text.replace("m.", "chiasm."))
    monkeypatch.setattr(module, "WORKFLOWS", {"detector": ()})

    def source(name):
        path = tmp_path / f"{name.replace('chiasm.', 'm.')}.py"
        return path if path.exists() else None

    monkeypatch.setattr(module, "_source", source)

    def now():
        code_fingerprint.cache_clear()
        return code_fingerprint("detector", "chiasm.method")

    first = now()
    (tmp_path / "m.other.py").write_text("x = 2\n")
    assert now() == first
    (tmp_path / "m.part.py").write_text("thing = 2\n")
    assert now() != first
    code_fingerprint.cache_clear()


def test_another_method_does_not_change_the_fingerprint(root):
    btf = fingerprint_of(Trial("detector", root / "bagel", {"model": "btf"}))
    ast = fingerprint_of(Trial("detector", root / "bagel", {"model": "ast"}))
    assert btf != ast


def test_a_reader_is_a_part_of_the_fingerprint_though_no_statement_imports_it():
    assert "chiasm.detection.readers.plain_folder" in WORKFLOWS["detector"]
    assert "chiasm.diagnosis.readers.aihub" in WORKFLOWS["classifier"]


def test_results_are_kept_whole_and_other_codes_runs_are_emptied(root, tmp_path):
    store, trial = (
        ResultStore(tmp_path / "store"),
        Trial("detector", root / "bagel", {"model": "x"}),
    )
    assert store.read(trial) is None
    store.prepare(trial, "code")
    store.write(trial, Result("done", metrics(0.5), code="code", weights="w"))
    assert store.read(trial) == Result("done", metrics(0.5), code="code", weights="w")
    store.prepare(trial, "code")
    assert store.read(trial) is not None
    store.prepare(trial, "other code")
    assert store.read(trial) is None
    (store.folder / trial.key / "result.json").write_text('{"result": {"status"')
    assert store.read(trial) is None


def test_figures_are_found_by_paths_whose_names_hold_dots():
    content = {
        "region": {"aupro": {"0.3": {"value": 0.9, "low": 0.8, "high": None}}},
        "cost": {"m": 3},
    }
    assert figure(content, "region.aupro.0.3") == (0.9, 0.8, None)
    assert figure(content, "cost.m") == (3.0, None, None)
    assert figure(content, "region.aupro.0.1") is None


def filled_table(root):
    trials = [Trial("detector", root / "bagel", {"model": "btf", "seed": s}) for s in range(4)]
    entries = (
        Entry("a", "image AUROC", "image.auroc", (trials[0],), 0.8),
        Entry("b", "image AUROC", "image.auroc", (trials[1], trials[2])),
        Entry("c", "image AUROC", "image.auroc", (trials[3],)),
        Entry("d", "image AUROC", "image.auroc", (), 0.7, "the category is not among the data"),
        Entry("e", "image AUROC", "image.auroc", (), None, NOT_RUN),
    )
    results = {
        trials[0].key: Result("done", metrics(0.9, 0.85, 0.95), weights="net, ImageNet"),
        trials[1].key: Result("done", metrics(0.7)),
        trials[2].key: Result("done", metrics(0.8)),
        trials[3].key: Result("crashed", {}, "ValueError: no."),
    }
    table = Table("t", "A table", entries, "Table 1 of a paper")
    return table, fill(table, results)


def test_entries_have_means_ranges_and_reasons(root):
    _, (a, b, c, d, _) = filled_table(root)
    assert (a.value, a.low, a.high, a.count) == (0.9, 0.85, 0.95, 1)
    assert (b.value, b.low, b.high, b.count) == (pytest.approx(0.75), 0.7, 0.8, 2)
    assert (c.value, c.remark) == (None, "crashed: ValueError: no.")
    assert (d.value, d.remark) == (None, "the category is not among the data")


def test_a_table_is_written_in_four_ways(root, tmp_path):
    table, filled = filled_table(root)
    text = write(table, filled, tmp_path, FACTS).read_text()
    assert "**0.900** (0.850 to 0.950) [0.800]" in text
    assert "<u>0.750</u> (0.700 to 0.800)" in text
    assert "| c | – |" in text
    assert "| d | [0.700] |" in text
    assert "| e | not run |" in text
    assert "Empty: the category is not among the data." in text
    assert "c, image AUROC: crashed: ValueError: no." in text
    assert "net, ImageNet" in text
    assert "not for comparison" in text
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    assert [row["row"] for row in rows] == ["a", "b", "c", "d", "e"]
    assert json.loads((tmp_path / "t.json").read_text())["entries"][0]["printed"] == 0.8
    assert (tmp_path / "t.png").stat().st_size > 1000


def test_marks_follow_what_is_better():
    def one(row, column, path, value):
        return Filled(Entry(row, column, path), value)

    found = marks(
        [
            one("a", "image AUROC", "image.auroc", 0.9),
            one("b", "image AUROC", "image.auroc", 0.8),
            one("c", "image AUROC", "image.auroc", 0.9),
            one("a", "memory, MB", "speed.peak_memory_mb", 500),
            one("b", "memory, MB", "speed.peak_memory_mb", 400),
            one("c", "memory, MB", "speed.peak_memory_mb", None),
        ]
    )
    assert found == {
        ("a", "image AUROC"): "best",
        ("c", "image AUROC"): "best",
        ("b", "image AUROC"): "second",
        ("b", "memory, MB"): "best",
        ("a", "memory, MB"): "second",
    }


def test_lines_are_drawn_over_a_numeric_axis(root, tmp_path):
    trial = Trial("detector", root / "bagel", {"model": "btf"})
    entries = tuple(Entry("a", shots, "image.auroc", (trial,)) for shots in ("5", "10", "all"))
    table = Table("few", "Few parts", entries, series="parts")
    filled = fill(table, {trial.key: Result("done", metrics(0.9))})
    write(table, filled, tmp_path, FACTS)
    picture = cv2.imread(str(tmp_path / "few.png"))
    assert picture.shape == (400, 600, 3)  # one panel of lines, not one of bars a column
    assert "| a | 0.900 | 0.900 | 0.900 |" in markdown(table, filled, FACTS).replace("**", "")


def test_every_labelled_method_is_built():
    from chiasm.registry import find_model

    for settings in METHODS.values():
        assert find_model(settings["model"]).wing == "detector"


def test_a_new_baseline_is_listed_without_a_label(monkeypatch):
    from chiasm import registry

    monkeypatch.setattr(registry, "_MODELS", dict(registry._MODELS))

    @registry.register("detector", baseline=True)
    def newcomer(**arguments):
        """A baseline of nobody."""

    listed = dict(_methods())
    assert listed["newcomer"] == {"model": "newcomer"}
    assert not is_full_size("btf")
    assert "newcomer" not in {b.name for b in unlabelled_baselines("classifier", ())}


@pytest.mark.parametrize("name", ["table4", "fig4a", "fig4b", "fig4c"])
def test_what_a_single_module_may_fuse_is_there(name, root):
    from chiasm.detection.building import pools_of
    from chiasm.detection.config import DetectionConfig

    for trial in describe(
        name, DetectionSuite(categories=categories_under(root, ("bagel",)))
    ).trials:
        pools = pools_of(DetectionConfig.make(data=trial.data, out=root, **trial.settings))
        assert list(pools.present) == list(trial.settings["cells"])
        assert all(len(pools.candidates(one)) >= 2 for one in pools.present)


def test_a_trial_is_not_run_by_other_code_than_it_is_named_after(root):
    trial = Trial("detector", root / "bagel", {"model": "btf"})
    description = {"wing": "detector", "folder": str(trial.data), "settings": {"model": "btf"}}
    check_code(description | {"code": fingerprint_of(trial)})
    with pytest.raises(ConfigurationError, match="changed while this trial was running"):
        check_code(description | {"code": "another"})


@pytest.mark.parametrize("given", ["--seeds=0-2", "--shots=five", "options={a:"])
def test_what_is_misspelt_is_told_in_words(root, tmp_path, given):
    words = ["bench", "rivals", "--data", str(root), "--out", str(tmp_path), given]
    done = CliRunner().invoke(app, words)
    assert done.exit_code != 0
    assert isinstance(done.exception, SystemExit | ConfigurationError)

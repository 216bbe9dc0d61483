"""What a trained classifier is judged by: nothing that it was trained or tuned on."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest

from chiasm.deploy.diagnosis import _recordings
from chiasm.diagnosis.calibrate import uncalibrated_contract
from chiasm.diagnosis.config import DiagnosisConfig
from chiasm.diagnosis.contract import DiagnosisContract, upgrade_contract
from chiasm.diagnosis.datamodule import DiagnosisDataModule, open_data
from chiasm.diagnosis.evaluate import evaluate
from chiasm.diagnosis.readers.opening import open_store
from chiasm.diagnosis.train import train, write_split
from chiasm.diagnosis.unseen import EvaluationSplit, _nearly, evaluation_split
from chiasm.errors import ConfigurationError, DataError, SplitError

KINDS = ("floating", "noise", "normal")


def table(
    folder: Path,
    *,
    sessions: Iterable[int] = range(18),
    kinds: tuple[str, ...] = KINDS,
    without_series: Iterable[int] = (),
    split: Callable[[int], str] = lambda session: "",
) -> Path:
    """A table of two recordings a session; a series is told apart by its class's level."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for session in sessions:
        kind = kinds[session % len(kinds)]
        for number in (2 * session, 2 * session + 1):
            rng = np.random.default_rng(number)
            level = 20 * (1 + KINDS.index(kind)) if kind in KINDS else 5
            series = rng.integers(0, level, (1, 1280)).astype(np.uint8)
            np.save(folder / f"{number}.npy", series)
            lacking = number in set(without_series)
            if lacking:
                grey = np.full((32, 32, 3), 90, np.uint8)
                cv2.imwrite(str(folder / f"{number}.png"), grey)
            rows.append(
                {
                    "series": "" if lacking else f"{number}.npy",
                    "image": f"{number}.png" if lacking else "",
                    "kind": kind,
                    "session": f"s{session}",
                    "equipment": f"e{session % 4}",
                    "split": split(session),
                }
            )
    path = folder / "table.csv"
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def prepared_run(
    source: Path, out: Path, **settings: object
) -> tuple[DiagnosisDataModule, DiagnosisContract]:
    """What training leaves of its lists, without the training."""
    given = {
        "model": "histogram_logistic",
        "shares": (0.5, 0.2, 0.3),
        "cache": source.parent.parent,
    }
    config = DiagnosisConfig.make(data=source, out=out, **given | settings)
    data = open_data(config)
    out.mkdir()
    config.save(out / "config.yaml")
    write_split(data)
    return data, uncalibrated_contract(data)


def unseen(run: Path, contract: DiagnosisContract, source: Path) -> EvaluationSplit:
    store = open_store(source, cache=source.parent.parent)
    return evaluation_split(run, contract, store, source)


def sessions(refs) -> set[str]:
    return {ref.group["session"] for ref in refs}


def first_version(contract: DiagnosisContract) -> DiagnosisContract:
    """The contract as the first ones were, which did not list the validation groups."""
    content = contract.model_dump(mode="json", by_alias=True)
    moved = ("training_data", "training_samples", "validation_samples")
    content["split"] |= {name: content.pop(name) for name in moved}
    del content["split"]["validation_groups"], content["split"]["groups_by"]
    return DiagnosisContract.model_validate(upgrade_contract(content | {"version": 1}))


def test_recordings_that_training_passed_over_move_no_session_into_the_test(tmp_path: Path):
    source = table(tmp_path / "data", without_series=range(24, 28))
    for seed in range(5):
        run = tmp_path / f"run{seed}"
        data, contract = prepared_run(source, run, seed=seed)
        lists = unseen(run, contract, source)
        learned = sessions((*data.split.train, *data.split.validation))
        assert not sessions(lists.test) & learned
        assert {ref.source for ref in data.split.test} == {ref.source for ref in lists.test}
        assert {ref.source for ref in data.split.train} == {ref.source for ref in lists.train}
        # Sessions 12 and 13 are no one's, and what they hold cannot be judged.
        assert lists.not_scored == 4 and "4 recordings have no series" in lists.notes[-1]
        (run / "split.json").unlink()
        assert not sessions(unseen(run, contract, source).test) & learned


def test_recordings_that_came_later_count_where_their_session_is_new(tmp_path: Path):
    source, run = table(tmp_path / "data"), tmp_path / "run"
    data, contract = prepared_run(source, run)
    trained = min(int(name[1:]) for name in sessions(data.split.train))
    table(tmp_path / "data", sessions=range(21))
    with source.open() as stream:
        text = stream.read()
    np.save(tmp_path / "data/late.npy", np.full((1, 1280), 9, np.uint8))
    source.write_text(text + f"late.npy,,{KINDS[trained % 3]},s{trained},e0,\n")
    lists = unseen(run, contract, source)
    assert sessions(lists.test) == sessions(data.split.test) | {"s18", "s19", "s20"}
    assert len(lists.train) == len(data.split.train)
    assert any("session of 1 recording; " in note for note in lists.notes)


def test_a_run_does_not_go_on_with_recordings_that_fall_into_other_lists(tmp_path: Path):
    source, run = table(tmp_path / "data"), tmp_path / "run"
    data, _ = prepared_run(source, run)
    (run / "checkpoints").mkdir()
    write_split(data)  # the same ones
    kept = (run / "split.json").read_text()
    table(tmp_path / "data", sessions=range(30))
    with pytest.raises(ConfigurationError, match="began when there were other recordings"):
        write_split(open_data(data.config))
    assert (run / "split.json").read_text() == kept


@pytest.mark.parametrize("given", [False, True])
def test_other_places_of_the_same_data_show_neither_training_nor_validation(
    tmp_path: Path, given: bool
):
    def split(session: int) -> str:
        return ("train", "train", "validation", "test")[session // 3 % 4] if given else ""

    source, run = table(tmp_path / "data", split=split), tmp_path / "run"
    data, contract = prepared_run(source, run, split_by="given" if given else "session")
    assert contract.split.groups_by == "session"
    copy = table(tmp_path / "copy", split=split)
    learned = sessions((*data.split.train, *data.split.validation))
    every = {f"s{number}" for number in range(18)}
    assert sessions(unseen(run, contract, copy).test) == every - learned
    assert sessions(unseen(tmp_path / "nowhere", contract, copy).test) == every - learned
    old = first_version(contract)
    assert old.split.validation_groups is None
    assert sessions(unseen(run, old, copy).test) == every - learned  # the run's own data tell
    with pytest.raises(SplitError, match=r"does not name the groups \(session\)"):
        unseen(tmp_path / "nowhere", old, copy)


def test_what_cannot_be_told_is_refused(tmp_path: Path):
    source, run = table(tmp_path / "data"), tmp_path / "run"
    _, contract = prepared_run(source, run, split_by="random")
    with pytest.raises(SplitError, match="random split"):
        unseen(tmp_path / "nowhere", contract, table(tmp_path / "copy"))
    (run / "split.json").write_text("{}")
    with pytest.raises(DataError, match="does not hold the three lists"):
        unseen(run, contract, source)


def test_a_run_that_kept_nothing_for_tests_says_so(tmp_path: Path):
    source, run = table(tmp_path / "data"), tmp_path / "run"
    _, contract = prepared_run(source, run, shares=(0.8, 0.2, 0.0))
    with pytest.raises(SplitError, match=r"left no recordings for tests \(shares \(0\.8, 0\.2"):
        unseen(run, contract, source)
    new = table(tmp_path / "new", sessions=range(30, 33))
    assert len(unseen(run, contract, new).test) == 6


def test_one_equipment_is_left_out_although_another_alone_holds_a_class(tmp_path: Path):
    source = table(tmp_path / "data", kinds=(*KINDS, "void"))  # a kind each to an equipment
    text = source.read_text()
    for session in (3, 7, 11):
        text = text.replace(f",s{session},e3", f",s{session},e1")
    source.write_text(text)
    data, contract = prepared_run(source, tmp_path / "run", split_by="equipment", test_group="e3")
    assert sessions(data.split.test) == {"s15"}
    assert sessions(unseen(tmp_path / "run", contract, source).test) == {"s15"}


def test_classes_are_told_by_name_not_by_number(tmp_path: Path):
    source, run = table(tmp_path / "data"), tmp_path / "run"
    _, contract = prepared_run(source, run)
    two = table(tmp_path / "two", sessions=range(40, 46), kinds=("floating", "normal"))
    assert open_store(two, cache=tmp_path).kinds == ("floating", "normal")
    test = unseen(run, contract, two).test
    assert {(ref.kind, contract.kinds[ref.label]) for ref in test} == {
        ("floating", "floating"),
        ("normal", "normal"),
    }


def test_recordings_of_untrained_classes_are_listed_apart(tmp_path: Path):
    source, run = table(tmp_path / "data"), tmp_path / "run"
    _, contract = prepared_run(source, run)
    other = table(tmp_path / "other", sessions=range(40, 46), kinds=("normal", "void"))
    lists = unseen(run, contract, other)
    assert {ref.kind for ref in lists.test} == {"normal"}
    assert lists.unknown_kinds == ("void",)
    assert [(ref.kind, ref.label) for ref in lists.unknown] == [("void", 0)] * 6
    assert "6 recordings are of void, which the model was not trained on" in lists.notes[-1]
    alone = table(tmp_path / "alone", sessions=range(40, 42), kinds=("void", "particle"))
    with pytest.raises(DataError, match="Add recordings of floating, noise, normal: how well"):
        unseen(run, contract, alone)


def test_a_class_that_was_left_out_of_training_is_unknown_in_every_session(tmp_path: Path):
    source, run = table(tmp_path / "data"), tmp_path / "run"
    _, contract = prepared_run(source, run, left_out=("noise",))
    lists = unseen(run, contract, source)
    assert {ref.kind for ref in lists.test} == {"floating", "normal"}
    assert lists.unknown_kinds == ("noise",) and len(lists.unknown) == 12


@pytest.mark.parametrize("slip", ["Noise", "no ise", "floatinng", "FLOATING "])
def test_a_class_with_a_slip_in_its_name_is_not_taken_for_another(tmp_path: Path, slip: str):
    source, run = table(tmp_path / "data"), tmp_path / "run"
    _, contract = prepared_run(source, run)
    other = table(tmp_path / "other", sessions=range(40, 46), kinds=("normal", slip))
    with pytest.raises(DataError, match=r"If that is the same class, name it"):
        unseen(run, contract, other)


def test_names_that_differ_in_a_number_are_different_classes():
    known = ("protrusion_1", "protrusion_2")
    assert _nearly("protrusion_3", known) is None
    assert _nearly("Protrusion 2", known) == "protrusion_2"


def test_an_export_is_proven_on_what_the_run_validated_on(tmp_path: Path):
    source, run = table(tmp_path / "data", without_series=range(24, 28)), tmp_path / "run"
    data, contract = prepared_run(source, run)
    copy = table(tmp_path / "copy", without_series=range(24, 28))
    for place in (None, copy):
        _, learned, validation, _ = _recordings(run, contract, place)
        assert sessions(validation) == sessions(data.split.validation)
        assert sessions(learned) <= sessions(data.split.train)
    _, _, validation, _ = _recordings(run, first_version(contract), copy)
    assert sessions(validation) == sessions(data.split.validation)


def test_one_class_and_unreadable_recordings_are_judged_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source, run = table(tmp_path / "data"), tmp_path / "run"
    settings = {"model": "histogram_logistic", "shares": (0.5, 0.2, 0.3), "cache": tmp_path}
    train(DiagnosisConfig.make(data=source, out=run, **settings))
    day = table(tmp_path / "day", sessions=range(40, 43), kinds=("floating",))
    (tmp_path / "day/80.npy").write_bytes(b"nothing")
    (tmp_path / "day/81.npy").unlink()
    metrics = evaluate(run, data=day, most_corrupted=4)
    assert metrics["counts"]["by_kind"] == {"floating": 4, "noise": 0, "normal": 0}
    assert metrics["counts"]["not_judged"] == 2
    assert metrics["unknown"]["kinds"] == {} and metrics["unknown"]["share"] == 0.05
    assert metrics["corruptions"] and "picture of another recording" not in metrics["corruptions"]
    said = "".join(capsys.readouterr().out.split())  # long paths are broken over lines
    assert "80.npy" in said and "81.npy" in said and "Nopicturewasputbeside" not in said
    page = (run / "report/report.html").read_text()
    assert "2 recordings could not be diagnosed" in page
    assert "No picture was put beside" not in page  # of series alone there is nothing to say
    several = table(tmp_path / "several", sessions=range(60, 68), kinds=("noise", "void"))
    metrics = evaluate(run, data=several, out=tmp_path / "report", most_corrupted=0)
    assert metrics["counts"]["judged"] == metrics["unknown"]["kinds"]["void"]["count"] == 8
    void, page = metrics["unknown"]["kinds"]["void"], (tmp_path / "report/report.html").read_text()
    assert void["scores"]["distance"]["auroc"]["value"] > 0.6 and void["found"]["value"] > 0
    said = " ".join(capsys.readouterr().out.split())
    assert "void, which the model was not trained on:" in said and "untrained class" in page

"""A watched folder: what is judged, when, once, and where it goes."""

from __future__ import annotations

import csv
import errno
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chiasm.detection.products.models import Product, write_products
from chiasm.errors import ArtifactError, ConfigurationError, DeviceLostError
from chiasm.line.judging import Judge
from chiasm.line.pairing import Needs
from chiasm.line.watch import Watch, locked
from chiasm.samples import Verdict
from line_watch import Bench, Brightness, write_part


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench.at(tmp_path)


def test_parts_are_judged_and_sorted(bench: Bench, capsys: pytest.CaptureFixture[str]):
    write_part(bench.folder, "a")
    write_part(bench.folder, "b", 0.9)
    (bench.folder / "note.txt").write_text("x")
    assert bench.look(bench.watch()) == 2
    assert sorted(bench.lines()) == ["a good", "b defective"]
    assert bench.files("good") == ["a.png", "a.tiff"]
    assert bench.files("defective") == ["b.png", "b.tiff"]
    assert bench.files() == ["note.txt"]
    assert [entry["alarm"] for entry in sorted(bench.sent, key=lambda e: e["source"])] == [
        *(False, True)
    ]
    assert bench.sent[0]["threshold"] == pytest.approx(0.5)
    said = capsys.readouterr().out
    assert "b: defective, score 0.902" in said
    assert ".txt" in said and "are not read" in said


def test_folders_of_sensors_stay_what_they_are(bench: Bench):
    for name in ("rgb", "xyz"):
        (bench.folder / name).mkdir()
    write_part(bench.folder / "rgb", "7", roles="rgb")
    write_part(bench.folder / "xyz", "7", roles="xyz")
    bench.look(bench.watch())
    assert bench.lines() == ["7 good"]
    assert bench.files("good") == ["rgb/7.png", "xyz/7.tiff"]


def test_a_file_that_grows_is_left_alone(bench: Bench):
    watch = bench.watch()
    write_part(bench.folder, "a")
    whole = (bench.folder / "a.tiff").read_bytes()
    for size in (2, 5, 8):
        (bench.folder / "a.tiff").write_bytes(whole[:size])
        watch.look()
        bench.now += 0.9
    assert bench.lines() == []
    (bench.folder / "a.tiff").write_bytes(whole)
    assert bench.look(watch) == 1


def test_a_picture_that_cannot_be_read_yet_gets_time(bench: Bench):
    watch = bench.watch()
    write_part(bench.folder, "a")
    whole = (bench.folder / "a.png").read_bytes()
    (bench.folder / "a.png").write_bytes(whole[: len(whole) // 2])
    assert bench.look(watch, 1.5) == 0  # it lay still for longer than it must
    (bench.folder / "a.png").write_bytes(whole)
    assert bench.look(watch) == 1
    assert bench.lines() == ["a good"]


def test_a_damaged_part_is_an_error_and_the_others_go_on(bench: Bench):
    watch = bench.watch()
    write_part(bench.folder, "a")
    write_part(bench.folder, "bug")
    write_part(bench.folder, "c")
    (bench.folder / "a.png").write_bytes(b"no picture")
    bench.look(watch)
    bench.look(watch, 10)
    assert sorted(bench.lines()) == ["a error", "bug error", "c good"]
    errors = {entry["source"]: entry["error"] for entry in bench.sent}
    assert "cannot be decoded" in errors["a"] and "RuntimeError" in errors["bug"]
    assert bench.files("error") == ["a.png", "a.tiff", "bug.png", "bug.tiff"]


def test_a_part_waits_for_its_other_file(bench: Bench):
    watch = bench.watch(patience_s=30)
    write_part(bench.folder, "a", roles="rgb")
    assert bench.look(watch, 20) == 0
    write_part(bench.folder, "a", roles="xyz")
    assert bench.look(watch) == 1
    write_part(bench.folder, "b", roles="xyz")
    assert bench.look(watch, 31) == 1
    assert bench.lines() == ["a good", "b error"]
    assert "a colour picture did not arrive within 30 s" in bench.sent[1]["error"]


def test_two_files_of_one_kind_are_refused_and_not_chosen_from(bench: Bench):
    write_part(bench.folder, "a")
    (bench.folder / "a.jpg").write_bytes((bench.folder / "a.png").read_bytes())
    bench.look(bench.watch(), 31)
    assert bench.lines() == ["a error"] and "are both the rgb file" in bench.sent[0]["error"]


@pytest.mark.parametrize("name", [".a.png", "~a.png", "a.png.part", "a.tmp.png", ".half-1-a.png"])
def test_names_of_files_in_the_making_are_ignored(bench: Bench, name: str):
    write_part(bench.folder, "a")
    (bench.folder / "a.png").rename(bench.folder / name)
    watch = bench.watch(patience_s=5)
    assert bench.look(watch, 2) == 0
    (bench.folder / name).rename(bench.folder / "a.png")
    assert bench.look(watch) == 1


def test_a_restart_judges_nothing_twice(bench: Bench):
    write_part(bench.folder, "a")
    watch = bench.watch(after="leave")
    bench.look(watch)
    write_part(bench.folder, "b")
    assert bench.look(bench.watch(after="leave")) == 1
    assert bench.lines() == ["a good", "b good"]
    for name in ("a.png", "a.tiff"):
        os.utime(bench.folder / name)  # written again
    assert bench.look(bench.watch(after="leave")) == 1
    assert bench.lines() == ["a good", "b good", "a good"]


def test_a_file_that_is_touched_without_change_gets_no_second_line(bench: Bench):
    write_part(bench.folder, "a")
    watch = bench.watch(after="leave")
    bench.look(watch)
    (bench.folder / "a.png").chmod(0o600)
    assert bench.look(watch) == 0
    assert bench.lines() == ["a good"]


def test_a_part_whose_move_a_kill_prevented_is_moved_without_a_second_line(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    write_part(bench.folder, "a")

    def fails(path: Path, target: Path) -> None:
        raise OSError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", fails)
        assert bench.look(bench.watch()) == 1
    assert "could not be moved" in capsys.readouterr().out
    assert bench.look(bench.watch()) == 0
    assert bench.lines() == ["a good"] and bench.files("good") == ["a.png", "a.tiff"]


def test_a_kill_between_sending_and_the_table_sends_the_same_id(bench: Bench):
    write_part(bench.folder, "a")
    watch = bench.watch()
    watch._journal.append = _killed  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        bench.look(watch)
    bench.look(bench.watch())
    assert len(bench.sent) == 2 and bench.sent[0]["id"] == bench.sent[1]["id"]
    assert bench.lines() == ["a good"]


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_full_disk_stops_judging_until_there_is_room(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    import threading

    write_part(bench.folder, "a")
    write_part(bench.folder, "b")
    watch = bench.watch()
    write, full = os.write, [True, True, True]

    def half(file: int, data: bytes) -> int:
        if full:
            write(file, data[: len(data) // 2])
            full.pop()
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data)

    monkeypatch.setattr(os, "write", half)
    monkeypatch.setattr(threading.Event, "wait", lambda self, timeout=None: self.is_set())
    assert bench.look(watch) == 2
    assert sorted(bench.lines()) == ["a good", "b good"]
    assert len(bench.sent) == 2
    assert "No space left" in capsys.readouterr().out


def test_nothing_is_overwritten_where_a_name_comes_again(bench: Bench):
    watch = bench.watch()
    write_part(bench.folder, "a", 0.1)
    bench.look(watch)
    write_part(bench.folder, "a", 0.2)
    bench.look(watch)
    assert bench.lines() == ["a good", "a good"]
    assert len(bench.files("good")) == 4


def test_marks_lie_beside_the_files(bench: Bench):
    write_part(bench.folder, "a")
    watch = bench.watch(after="mark")
    bench.look(watch)
    bench.look(watch)
    assert bench.files() == ["a.png", "a.tiff", "a.verdict.json"]
    assert bench.lines() == ["a good"]


def test_what_is_there_may_be_skipped(bench: Bench):
    write_part(bench.folder, "a")
    write_part(bench.folder, "b", roles="rgb")
    watch = bench.watch()
    assert watch.skip_present() == 2
    write_part(bench.folder, "b", roles="xyz")
    write_part(bench.folder, "c")
    bench.look(watch)
    assert sorted(bench.lines()) == ["b good", "c good"]


def test_a_new_model_judges_and_a_broken_one_does_not(
    bench: Bench, capsys: pytest.CaptureFixture[str]
):
    watch = bench.watch()
    description = bench.model / "deployment.json"
    for content, says in (("b" * 64, "was replaced"), (None, "")):
        if content is None:
            description.unlink()
        else:
            description.write_text(content)
        write_part(bench.folder, "a")
        bench.look(watch)
        assert bench.sent[-1]["model_hash"] == "b" * 64
        assert says in capsys.readouterr().out


def test_a_folder_that_vanishes_is_waited_for(bench: Bench, capsys: pytest.CaptureFixture[str]):
    watch = bench.watch(after="leave")
    write_part(bench.folder, "a")
    bench.look(watch)
    away = bench.folder.with_name("away")
    bench.folder.rename(away)
    assert bench.look(watch) == 0
    said = capsys.readouterr().out
    assert said.count("cannot be listed") == 1
    bench.folder.mkdir()  # the empty place of a share that is not mounted
    bench.look(watch)
    bench.folder.rmdir()
    away.rename(bench.folder)
    write_part(bench.folder, "b")
    bench.look(watch)
    assert bench.lines() == ["a good", "b good"]
    assert "is back" in capsys.readouterr().out


def test_two_watches_of_one_folder_or_into_one_are_refused(bench: Bench, tmp_path: Path):
    other = tmp_path / "other"
    other.mkdir()
    with locked(bench.folder, bench.out):
        for folder, out in ((bench.folder, other), (other, bench.out)):
            with (
                pytest.raises(ConfigurationError, match="Another 'chiasm watch'"),
                locked(folder, out),
            ):
                pass
    with locked(bench.folder, bench.out):
        pass


def test_results_may_lie_in_the_folder_but_not_be_it(bench: Bench):
    bench.out = bench.folder / "done"
    bench.out.mkdir()
    write_part(bench.folder, "a")
    watch = bench.watch()
    bench.look(watch)
    assert bench.look(watch) == 0 and bench.lines() == ["a good"]
    bench.out = bench.folder
    with pytest.raises(ConfigurationError, match="--out"):
        bench.watch()


def test_another_table_is_not_appended_to(bench: Bench):
    (bench.out / "verdicts.csv").write_text("source,score\n")
    with pytest.raises(ArtifactError, match="Move it away"):
        bench.watch()


def test_a_table_of_an_earlier_version_keeps_its_columns(bench: Bench):
    write_part(bench.folder, "a")
    bench.look(bench.watch(after="leave"))
    table = bench.out / "verdicts.csv"
    header, *rows = table.read_text().splitlines()
    old = header.split(",").index("stamp") + 1
    # Of this part the columns that were added are empty, at the end.
    kept = [header.split(",")[:old], rows[0].rsplit(",", len(header.split(",")) - old)[:1]]
    table.write_text("".join(f"{','.join(row)}\n" for row in kept))
    write_part(bench.folder, "b")
    bench.look(bench.watch(after="leave"))
    assert bench.lines() == ["a good", "b good"]
    lengths = {len(row) for row in csv.reader(table.read_text().splitlines())}
    assert lengths == {old}


def test_a_line_that_a_kill_cut_off_is_written_again(bench: Bench):
    write_part(bench.folder, "a")
    bench.look(bench.watch(after="leave"))
    table = bench.out / "verdicts.csv"
    whole = table.read_bytes()
    for cut in (1, 40, len(whole) - 5):
        table.write_bytes(whole[:-cut])
        bench.look(bench.watch(after="leave"))
        assert bench.lines() == ["a good"]


@pytest.mark.parametrize("name", ["=1+1", "-2", "a,b", "größe 7"])
def test_names_are_kept_and_are_no_formulas(bench: Bench, name: str):
    import csv

    write_part(bench.folder, name)
    bench.look(bench.watch(after="leave"))
    assert bench.look(bench.watch(after="leave")) == 0
    with (bench.out / "verdicts.csv").open(newline="", encoding="utf-8") as stream:
        (row,) = csv.DictReader(stream)
    assert row["source"].removeprefix("'") == name and row["source"][0] not in "=+-@"


def test_a_name_that_is_no_text_is_judged(bench: Bench, capsys: pytest.CaptureFixture[str]):
    write_part(bench.folder, "a")
    strange = os.fsdecode(b"\xff")
    for suffix in (".png", ".tiff"):
        (bench.folder / f"a{suffix}").rename(bench.folder / f"{strange}{suffix}")
    assert bench.look(bench.watch(after="leave")) == 1
    assert bench.look(bench.watch(after="leave")) == 0
    assert bench.lines() == ["? good"] and bench.sent[0]["source"] == "?"
    assert "?: good" in capsys.readouterr().out


def test_a_file_that_may_not_be_read_is_an_error(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    write_part(bench.folder, "a")

    def refuse(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    opens = Path.open

    def no_picture(path: Path, *arguments: object, **options: object) -> object:
        if path.suffix == ".png":
            refuse(path)
        return opens(path, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "read_bytes", refuse)
    monkeypatch.setattr(Path, "open", no_picture)
    watch = bench.watch()
    bench.look(watch)
    bench.look(watch, 10)
    assert bench.lines() == ["a error"] and "Permission denied" in bench.sent[0]["error"]


def test_a_file_that_is_written_again_and_again_is_said(
    bench: Bench, capsys: pytest.CaptureFixture[str]
):
    watch = bench.watch(patience_s=5)
    for number in range(20):
        write_part(bench.folder, "latest", number / 100)
        watch.look()
        bench.now += 0.5
    assert bench.lines() == []
    assert capsys.readouterr().out.count("again and again") == 1


def test_a_link_to_a_folder_is_not_followed_in_circles(bench: Bench):
    (bench.folder / "again").symlink_to(bench.folder)
    write_part(bench.folder, "a")
    assert bench.look(bench.watch()) == 1


def test_a_lost_device_ends_the_watch_and_its_part_is_judged_later(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    write_part(bench.folder, "a")

    def lost(*_: object, **__: object) -> None:
        raise DeviceLostError("The GPU answers no more.")

    with monkeypatch.context() as broken:
        broken.setattr(Brightness, "__call__", lost)
        with pytest.raises(DeviceLostError):
            bench.look(bench.watch())
    assert bench.look(bench.watch()) == 1 and bench.lines() == ["a good"]


@pytest.mark.parametrize("colours", [True, False])
def test_a_point_cloud_with_colours_is_a_whole_part(bench: Bench, colours: bool):
    fields = (
        ("x y z rgb", "4 4 4 4", "F F F U", "1 1 1 1")
        if colours
        else (*("x y z", "4 4 4", "F F F", "1 1 1"),)
    )
    names = ("FIELDS", "SIZE", "TYPE", "COUNT")
    rows = [
        f"{x} {y} 0.5" + (f" {0xE0E0E0}" if colours else "") for y in range(8) for x in range(8)
    ]
    (bench.folder / "a.pcd").write_text(
        "VERSION 0.7\n"
        + "".join(f"{name} {values}\n" for name, values in zip(names, fields))
        + "WIDTH 8\nHEIGHT 8\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS 64\nDATA ascii\n"
        + "\n".join(rows)
        + "\n"
    )
    watch = bench.watch()
    assert bench.look(watch) == colours
    assert bench.lines() == (["a defective"] if colours else [])


class Named(Brightness):
    """A model of several products, each of the folder of its name."""

    def __call__(self, *, source: str, **files: Any) -> Verdict:
        return replace(super().__call__(source=source, **files), product=source.split("/")[0])


def test_a_product_is_in_the_table_and_its_new_threshold_is_adopted(
    bench: Bench, capsys: pytest.CaptureFixture[str]
):
    (bench.model / "deployment.json").unlink()
    for name in ("lid", "cup"):
        (bench.model / name).mkdir()
        (bench.model / name / "deployment.json").write_text("{}")
        (bench.folder / name).mkdir()
    write_products(bench.model, [Product(name, name) for name in ("lid", "cup")])

    def load(folder: Path) -> Brightness:
        return Named(folder / "cup")

    watch = Watch(
        bench.folder, bench.out, Judge(bench.model, load), send=bench.sent.append, clock=bench.clock
    )
    write_part(bench.folder / "lid", "1")
    assert bench.look(watch) == 1
    (row,) = csv.DictReader((bench.out / "verdicts.csv").read_text().splitlines())
    assert row["product"] == bench.sent[0]["product"] == "lid"
    (bench.model / "cup" / "deployment.json").write_text("{'another': 'threshold'}")
    bench.look(watch)
    assert "was replaced" in capsys.readouterr().out
    bench.look(watch)
    assert "was replaced" not in capsys.readouterr().out


def test_a_table_without_products_is_continued_in_its_columns(bench: Bench):
    write_part(bench.folder, "1")
    bench.look(bench.watch(after="leave"))
    table = bench.out / "verdicts.csv"
    with table.open(newline="") as stream:
        rows = list(csv.reader(stream))
    last = rows[0].index("stamp") + 1  # of the columns of the first version
    earlier = [row[:last] for row in rows]
    with table.open("w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(earlier)
    write_part(bench.folder, "2")
    assert bench.look(bench.watch(after="leave")) == 1  # and not the first again
    with table.open(newline="") as stream:
        found = list(csv.DictReader(stream))
    assert [row["source"] for row in found] == ["1", "2"]
    assert all("product" not in row and len(row["id"]) == 32 and row["stamp"] for row in found)


def test_a_recorders_file_beside_pictures_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    needs = Needs.of("classifier", ("image",))
    judge = cast(Judge, SimpleNamespace(needs=needs, refresh=lambda: None))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.xml").write_text("<times>1 2</times>")
    watch = Watch(tmp_path / "in", tmp_path / "out", judge)
    assert watch.look() == watch.look() == 0
    said = capsys.readouterr()
    assert (said.out + said.err).count("judged by 'chiasm predict'") == 1

"""What a line meets in its first hour: shares, cameras and disks that do half of something."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from chiasm.files.locks import is_held
from chiasm.line.watch import locked
from line_watch import Bench, write_part


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench.at(tmp_path)


@pytest.mark.parametrize("late", ["tiff", "png"])
def test_a_new_file_is_not_joined_with_the_other_of_the_part_before(bench: Bench, late: str):
    early = {"tiff": "png", "png": "tiff"}[late]
    write_part(bench.folder, "a")
    watch = bench.watch(after="leave", patience_s=20)
    bench.look(watch)
    os.utime(bench.folder / f"a.{early}", (1, 1))  # of the next part, under the same name
    for _ in range(5):
        assert bench.look(watch) == 0
    os.utime(bench.folder / f"a.{late}", (1, 1))
    assert bench.look(watch) == 1
    assert bench.lines() == ["a good", "a good"]


def test_a_file_that_stays_the_old_one_is_an_error_also_after_a_restart(bench: Bench):
    write_part(bench.folder, "a")
    bench.look(bench.watch(after="leave"))
    os.utime(bench.folder / "a.png", (1, 1))
    watch = bench.watch(after="leave", patience_s=5)
    assert bench.look(watch, 6) == 1
    assert bench.lines() == ["a good", "a error"]
    assert "a.tiff is still that of the a that was judged before" in bench.sent[-1]["error"]
    os.utime(bench.folder / "a.tiff", (1, 1))  # it comes all the same
    assert bench.look(bench.watch(after="leave", patience_s=5)) == 1
    assert bench.lines()[-1] == "a good"


def test_a_damaged_file_may_be_written_again_alone(bench: Bench):
    write_part(bench.folder, "a")
    whole = (bench.folder / "a.png").read_bytes()
    (bench.folder / "a.png").write_bytes(b"damaged")
    watch = bench.watch(after="leave")
    assert bench.look(watch, 6) == 1
    (bench.folder / "a.png").write_bytes(whole)
    assert bench.look(watch) == 1
    assert bench.lines() == ["a error", "a good"]


def test_the_rest_of_a_part_whose_move_was_cut_off_is_moved_and_is_no_error(bench: Bench):
    write_part(bench.folder, "a")
    bench.look(bench.watch(after="leave"))
    (bench.out / "good").mkdir()
    (bench.folder / "a.png").rename(bench.out / "good" / "a.png")  # and then the power went
    assert bench.look(bench.watch(patience_s=5), 6) == 0
    assert bench.lines() == ["a good"] and bench.files("good") == ["a.png", "a.tiff"]


def test_a_move_that_failed_is_tried_again_and_moves_no_newer_file(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    write_part(bench.folder, "a")
    write_part(bench.folder, "b")
    watch = bench.watch()

    def fails(path: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", fails)
        assert bench.look(watch) == 2
    assert "tried again" in capsys.readouterr().out and not bench.files("good")
    assert bench.look(watch) == 0 and not bench.files("good")  # not at every look
    write_part(bench.folder, "b", 0.9)  # another part of this name
    bench.now += 40
    bench.look(watch)
    assert {"a.png", "a.tiff"} <= set(bench.files("good"))
    assert bench.files("defective") == ["b.png", "b.tiff"]
    assert sorted(bench.lines()) == ["a good", "b defective", "b good"]


def test_an_unmounted_share_does_not_make_parts_new(bench: Bench, tmp_path: Path):
    write_part(bench.folder, "a")
    watch = bench.watch()
    away = tmp_path / "away"

    def judged_while_it_vanishes(payload: object) -> None:
        bench.folder.rename(away)
        bench.folder.mkdir()  # the empty place where it was mounted

    watch._send = judged_while_it_vanishes  # type: ignore[method-assign]
    bench.look(watch)
    bench.look(watch)
    bench.folder.rmdir()
    away.rename(bench.folder)
    bench.look(watch)
    assert bench.lines() == ["a good"] and bench.files("good") == ["a.png", "a.tiff"]


@pytest.mark.parametrize("zeros", [0, 70_000])
def test_a_file_whose_size_was_reserved_gets_time(bench: Bench, zeros: int):
    write_part(bench.folder, "a")
    (bench.folder / "a.tiff").write_bytes(bytes([1]) * 100 + bytes(zeros))
    watch = bench.watch()
    assert bench.look(watch) == (zeros == 0)
    assert bench.look(watch, 5) == (zeros > 0)  # it is judged, for points may be missing there


def test_other_files_of_a_camera_are_ignored_by_their_names(bench: Bench):
    (bench.folder / "old").mkdir()
    for name in ("a", "a_preview", "old/b"):
        write_part(bench.folder, name, roles="rgb" if name != "a" else "rgb xyz")
    watch = bench.watch(patience_s=3, ignore=("*_preview.png", "old/*"))
    assert bench.look(watch, 5) == 1 and bench.look(watch, 5) == 0
    assert bench.lines() == ["a good"]


def test_a_share_without_locks_is_said_and_watched(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    import fcntl

    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with locked(bench.folder, bench.out):
        pass
    said = capsys.readouterr().out
    assert said.count("cannot be locked") == 2 and "no second watch" in said
    assert not is_held(ValueError())  # type: ignore[arg-type]

"""Conversions of many parts: in workers, resumed, with damage, and never half a part."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from chiasm.detection.readers import convert as module
from chiasm.detection.readers.convert import convert
from chiasm.detection.readers.mvtec3d import Mvtec3d
from chiasm.errors import ArtifactError, DataError
from chiasm.files.images import write_rgb, write_xyz

COUNT = 6
OPTIONS = {"split": "train", "kind": "good"}


@pytest.fixture
def raw(tmp_path) -> Path:
    for number in range(COUNT):
        put(tmp_path / "raw", number)
    return tmp_path / "raw"


def put(folder: Path, number: int, seed: int | None = None) -> None:
    rng = np.random.default_rng(number if seed is None else seed)
    write_rgb(folder / f"rgb/{number}.png", rng.random((4, 5, 3), np.float32))
    write_xyz(folder / f"xyz/{number}.tiff", rng.uniform(0.3, 0.4, (4, 5, 3)))


def files_of(folder: Path) -> dict[str, bytes]:
    """Content of the converted files, by name."""
    paths = [*folder.rglob("*.png"), *folder.rglob("*.tiff"), folder / "origin.csv"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def stop_after(number: int):
    def watch(stage, count, items):
        for done, item in enumerate(items):
            if done == number:
                raise KeyboardInterrupt
            yield item

    return watch


def counted(seen: list[int]):
    def watch(stage, count, items):
        seen.append(count)
        return items

    return watch


def test_workers_write_what_one_process_writes_and_damage_costs_one_part(raw, tmp_path):
    (raw / "xyz/2.tiff").write_bytes(b"damaged")
    alone = convert(raw, tmp_path / "alone", **OPTIONS)
    shared = convert(raw, tmp_path / "shared", **OPTIONS, workers=2)
    assert files_of(alone.root) == files_of(shared.root)
    assert alone.written == shared.written == COUNT - 1
    assert [p.source for p in shared.problems] == [str(raw / "rgb/2.png")]
    assert alone.problems == shared.problems
    assert not (alone.root / "train/good/rgb/002.png").exists()
    put(raw, 2)
    mended = convert(raw, tmp_path / "shared", **OPTIONS)
    assert (mended.written, mended.kept, mended.problems) == (COUNT, COUNT - 1, ())
    assert files_of(mended.root) == files_of(convert(raw, tmp_path / "whole", **OPTIONS).root)


def test_an_interrupted_conversion_goes_on(raw, tmp_path):
    whole = files_of(convert(raw, tmp_path / "whole", **OPTIONS).root)
    new = tmp_path / "new"
    with pytest.raises(KeyboardInterrupt):
        convert(raw, new, **OPTIONS, progress=stop_after(3))
    with pytest.raises(DataError, match="another split"):
        convert(raw, new, split="test", kind="good")
    seen: list[int] = []
    assert convert(raw, new, **OPTIONS, progress=counted(seen)).kept == 3
    assert files_of(new) == whole
    convert(raw, new, **OPTIONS, progress=counted(seen))
    assert seen == [COUNT - 3, 0]


KILLED = """
import os, signal, sys
from chiasm.detection.readers import convert as module
def write_rgb(path, rgb, **how):
    path.write_bytes(b"half a picture")
    if "003" in path.name:
        os.kill(os.getpid(), signal.SIGKILL)
    written(path, rgb, **how)
written, module.write_rgb = module.write_rgb, write_rgb
module.convert(sys.argv[1], sys.argv[2], split="train", kind="good")
"""


def test_a_half_written_file_never_counts(raw, tmp_path):
    new = tmp_path / "new"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(raw), str(new)], check=False)
    assert killed.returncode == -signal.SIGKILL
    halves = [path for path in new.rglob("*.png") if path.name.startswith(".half")]
    assert len(halves) == 1
    assert len(Mvtec3d(new).refs) == 3
    with (new / "conversion.jsonl").open("ab") as stream:
        stream.write(b'["half a line')
    assert convert(raw, new, **OPTIONS).kept == 3
    assert files_of(new) == files_of(convert(raw, tmp_path / "whole", **OPTIONS).root)


def test_what_changed_at_the_origin_is_made_again_and_nothing_stale_stays(raw, tmp_path):
    new = convert(raw, tmp_path / "new", **OPTIONS).root
    put(raw, 1, seed=99)
    (raw / "xyz/4.tiff").write_bytes(b"damaged now")
    again = convert(raw, new, **OPTIONS)
    assert (again.written, again.kept) == (COUNT - 1, COUNT - 2)
    assert not list(new.rglob("004.*"))
    assert files_of(new) == files_of(convert(raw, tmp_path / "other", **OPTIONS).root)
    put(raw, COUNT)
    assert convert(raw, new, **OPTIONS).written == COUNT
    for folder in ("rgb", "xyz"):
        next((raw / folder).glob("0.*")).unlink()
    with pytest.raises(DataError, match=r"1 parts .* not listed any more, such as .*rgb/0\.png"):
        convert(raw, new, **OPTIONS)


def test_strict_stops_at_the_first_damaged_file(raw, tmp_path):
    (raw / "xyz/2.tiff").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"2\.tiff .* 2 parts are complete and are kept"):
        convert(raw, tmp_path / "new", **OPTIONS, strict=True)
    put(raw, 2)
    assert convert(raw, tmp_path / "new", **OPTIONS, strict=True).kept == 2
    (raw / "xyz/2.tiff").unlink()
    with pytest.raises(DataError, match=r"Nothing was converted: .* no partner"):
        convert(raw, tmp_path / "other", **OPTIONS, strict=True)
    assert not (tmp_path / "other").exists()


def test_a_full_disk_says_what_is_kept(raw, tmp_path, monkeypatch):
    written = []

    def write(path, rgb, **how):
        written.append(path)
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        write_rgb(path, rgb, **how)

    monkeypatch.setattr(module, "write_rgb", write)
    with pytest.raises(ArtifactError, match=r"No space left .* 2 of 6 parts .* Free some space"):
        convert(raw, tmp_path / "new", **OPTIONS)
    assert convert(raw, tmp_path / "new", **OPTIONS).kept == 2


def test_a_folder_of_something_else_stays_as_it_is(raw, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="other is not empty"):
        convert(raw, other, **OPTIONS)
    assert [path.name for path in other.iterdir()] == ["notes.txt"]


def test_numbers_of_many_parts_sort_as_their_origins(tmp_path):
    log = module.ConversionLog
    (tmp_path / "log").mkdir()
    with log(tmp_path / "log", {}) as empty:
        stems = empty.stems([(str(n), "train/good") for n in range(1001)])
    assert stems == sorted(stems)
    assert stems[-1] == "1000"

"""The store: the same recordings come back, after kills too; damage is told; reading is fast."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from chiasm.diagnosis.readers import shards
from chiasm.diagnosis.readers import store as recording_store
from chiasm.diagnosis.readers.aihub import AiHub
from chiasm.diagnosis.readers.journal import JOURNAL
from chiasm.diagnosis.readers.manifest import RecordingManifest
from chiasm.diagnosis.readers.series_files import read_counts_csv
from chiasm.diagnosis.readers.source import problem_message
from chiasm.diagnosis.readers.store import RecordingStore, convert
from chiasm.errors import DataError
from chiasm.files.locks import write_lock

COUNT = 10
CYCLE = 64


@pytest.fixture
def table(tmp_path) -> Path:
    """Ten recordings of every kind: of one sensor, 16-bit, negative, fractional, grey."""
    rng = np.random.default_rng(0)
    lines = [f"image,series,label,split,session,samples_per_cycle,{'frequency'}"]
    for n in range(COUNT):
        depth = np.uint16 if n == 2 else np.uint8
        pixels = rng.integers(0, np.iinfo(depth).max + 1, (8, 9, 3), dtype=depth)
        cv2.imwrite(str(tmp_path / f"{n}.png"), pixels[..., 0] if n == 5 else pixels)
        series = rng.integers(0, 256, (2, 5 * CYCLE)).astype(np.float32)
        series *= {6: 100, 7: -1, 8: 0.1}.get(n, 1)
        np.save(tmp_path / f"{n}.npy", series)
        image, values = ("" if n == 3 else f"{n}.png"), ("" if n == 4 else f"{n}.npy")
        lines.append(f"{image},{values},{n % 3},test,상자{n // 2},{CYCLE},50")
    path = tmp_path / "list.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


class Watched:
    """A source that remembers what was loaded from it."""

    def __init__(self, source) -> None:
        self.source = source
        self.loaded: list[str] = []

    def __getattr__(self, name):
        return getattr(self.source, name)

    def load(self, ref):
        self.loaded.append(Path(ref.source).stem)
        return self.source.load(ref)


def assert_same(store: RecordingStore, source) -> None:
    assert len(store.refs) == len(source.refs) and store.kinds == source.kinds
    for stored_ref, source_ref in zip(store.refs, source.refs):
        one, other = store.load(stored_ref), source.load(source_ref)
        for field in ("image", "series"):
            assert (getattr(one, field) is None) == (getattr(other, field) is None)
            if getattr(one, field) is not None:
                np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
                assert getattr(one, field).dtype == np.float32
        facts = ("frequency", "samples_per_cycle", "label", "kind", "group", "split", "source")
        for field in facts:
            assert getattr(one, field) == getattr(other, field)


def test_the_same_recordings_come_back(table, tmp_path):
    source = RecordingManifest(table)
    seen = []
    store = convert(source, tmp_path / "store", progress=lambda *at: seen.append(at))
    assert seen == [(n, COUNT) for n in range(1, COUNT + 1)]
    assert_same(store, source)
    assert_same(RecordingStore.open(tmp_path / "store"), source)
    types = [None if c is None else c.dtype.str for c in map(store.counts, store.refs)]
    assert types == ["|u1"] * 4 + [None, "|u1", "<u2", "<f4", "<f4", "|u1"]
    assert not store.counts(store.refs[0]).flags.writeable
    assert store.problems == store.repairs(store.refs[5]) and "grey-scale" in str(store.problems[0])
    assert_same(convert(store, tmp_path / "copy"), source)


def test_nothing_is_read_twice_but_what_changed(table, tmp_path):
    convert(RecordingManifest(table), tmp_path / "store")
    again = Watched(RecordingManifest(table))
    assert "grey-scale" in str(convert(again, tmp_path / "store").problems)
    assert again.loaded == []
    np.save(tmp_path / "1.npy", np.zeros(3 * CYCLE))
    table.write_text(table.read_text().replace("9.png,9.npy,0", "9.png,9.npy,1"))
    text = table.read_text().splitlines()
    table.write_text("\n".join(text[:1] + text[2:]))
    again = Watched(RecordingManifest(table))
    store = convert(again, tmp_path / "store")
    assert again.loaded == ["1", "9"] and len(store.refs) == COUNT - 1
    assert_same(store, again.source)


KILLED = """
import os, signal, sys
from chiasm.diagnosis.readers import store as recording_store, shards
from chiasm.diagnosis.readers.manifest import RecordingManifest
recording_store.BATCH, shards.SHARD_BYTES = 3, 1500
def progress(done, _):
    if done == 8:
        os.kill(os.getpid(), signal.SIGKILL)
recording_store.convert(RecordingManifest(sys.argv[1]), sys.argv[2], progress=progress)
"""


def test_a_killed_conversion_continues(table, tmp_path):
    store = tmp_path / "store"
    done = subprocess.run([sys.executable, "-c", KILLED, str(table), str(store)], check=False)
    assert done.returncode == -signal.SIGKILL
    with pytest.raises(DataError, match="has not finished; run it again"):
        RecordingStore.open(store)
    source = Watched(RecordingManifest(table))
    assert_same(convert(source, store), source.source)
    assert source.loaded == ["6", "7", "8", "9"]


@pytest.mark.parametrize("cut", [0, 1, 150, 400, 900, 10**6])
def test_whatever_a_kill_leaves_behind_is_mended(table, tmp_path, monkeypatch, cut):
    monkeypatch.setattr(recording_store, "BATCH", 2)
    monkeypatch.setattr(shards, "SHARD_BYTES", 2500)
    store = tmp_path / "store"
    with pytest.raises(KeyboardInterrupt):
        convert(RecordingManifest(table), store, progress=stop_at(7))
    journal = store / JOURNAL
    journal.write_bytes(journal.read_bytes()[:cut])
    last = sorted(store.glob("recordings-*"))[-1]
    with last.open("ab") as stream:
        stream.write(b"half a record")
    (store / "recordings-00007.bin").write_bytes(b"a shard begun too early" * 99)
    source = RecordingManifest(table)
    mended = convert(source, store)
    assert_same(mended, source)
    assert len(list(store.glob("recordings-*"))) > 3


def stop_at(number: int):
    def progress(done, _):
        if done == number:
            raise KeyboardInterrupt

    return progress


def test_readers_see_the_old_index_until_the_new_one_is_whole(table, tmp_path):
    source = RecordingManifest(table)
    convert(source, tmp_path / "store")
    before = RecordingStore.open(tmp_path / "store")
    for n in range(COUNT):
        np.save(tmp_path / f"{n}.npy", np.full(2 * CYCLE, n))
    with pytest.raises(KeyboardInterrupt):
        convert(RecordingManifest(table), tmp_path / "store", progress=stop_at(9))
    expected = before.load(before.refs[0]).series
    during = RecordingStore.open(tmp_path / "store")
    np.testing.assert_array_equal(during.load(during.refs[0]).series, expected)
    convert(RecordingManifest(table), tmp_path / "store")
    np.testing.assert_array_equal(before.load(before.refs[0]).series, expected)
    after = RecordingStore.open(tmp_path / "store")
    np.testing.assert_array_equal(after.load(after.refs[9]).series, np.full((1, 2 * CYCLE), 9))


def total(store: RecordingStore) -> float:
    return sum(float(s.sum()) for ref in store.refs if (s := store.load(ref).series) is not None)


def test_several_processes_read_at_once(table, tmp_path):
    store = convert(RecordingManifest(table), tmp_path / "store")
    expected = total(store)
    assert len(pickle.dumps(store)) < 10_000
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(total, [store] * 4, chunksize=1) == [expected] * 4


def test_a_writer_that_does_not_end_is_told(table, tmp_path):
    convert(RecordingManifest(table), tmp_path / "store")
    with write_lock(tmp_path / "store"), pytest.raises(DataError, match="another process"):
        convert(RecordingManifest(table), tmp_path / "store", patience_s=0)


def test_two_conversions_at_once_make_one_store(table, tmp_path):
    expected = total(convert(RecordingManifest(table), tmp_path / "alone"))
    with ThreadPoolExecutor(2) as pool:
        stores = list(
            pool.map(lambda _: convert(RecordingManifest(table), tmp_path / "store"), range(2))
        )
    assert [total(store) for store in stores] == [expected] * 2
    assert len(stores[0].refs) == len({ref.source for ref in stores[1].refs})


def test_what_cannot_be_read_is_told_and_tried_again(table, tmp_path):
    good = (tmp_path / "4.png").read_bytes()
    (tmp_path / "4.png").write_bytes(b"damaged")
    np.save(tmp_path / "6.npy", np.ones(CYCLE - 1))
    store = convert(RecordingManifest(table), tmp_path / "store")
    assert len(store.refs) == COUNT - 2 and len(store.problems) == 3
    assert "4.png cannot be decoded" in str(store.problems[0])
    assert "6.npy holds 63 values" in str(store.problems[1])
    assert [p.left_out for p in store.problems] == [True, True, False]
    assert Path(store.problems[1].source).name == "6.png"
    (tmp_path / "4.png").write_bytes(good)
    source = Watched(RecordingManifest(table))
    assert len(convert(source, tmp_path / "store").refs) == COUNT - 1
    assert source.loaded == ["4", "6"]
    for n in range(COUNT):
        (tmp_path / f"{n}.npy").write_bytes(b"")
        (tmp_path / f"{n}.png").write_bytes(b"")
    with pytest.raises(DataError, match="Not one recording of list can be read"):
        convert(RecordingManifest(table), tmp_path / "other")


def test_workers_write_the_store_of_one_process(table, tmp_path):
    (tmp_path / "4.png").write_bytes(b"damaged")
    alone = convert(RecordingManifest(table), tmp_path / "alone")
    shared = convert(RecordingManifest(table), tmp_path / "shared", workers=2)
    for name in ("index.jsonl", "recordings-00000.bin"):
        assert (alone.path / name).read_bytes() == (shared.path / name).read_bytes()
    assert alone.problems == shared.problems
    assert_same(convert(alone, tmp_path / "copy", workers=2), alone)


def test_strict_stops_and_keeps_what_is_complete(table, tmp_path):
    np.save(tmp_path / "6.npy", np.ones(CYCLE - 1))
    with pytest.raises(DataError, match=r"6\.npy .* 6 of 10 recordings are complete"):
        convert(RecordingManifest(table), tmp_path / "store", strict=True)
    np.save(tmp_path / "6.npy", np.ones(CYCLE))
    again = Watched(RecordingManifest(table))
    convert(again, tmp_path / "store", strict=True)
    assert again.loaded == ["6", "7", "8", "9"]


def test_an_index_with_problems_as_messages_is_read(table, tmp_path):
    np.save(tmp_path / "6.npy", np.ones(CYCLE - 1))
    store = convert(RecordingManifest(table), tmp_path / "store")
    (problem,) = (p for p in store.problems if p.left_out)
    header, _, body = (tmp_path / "store/index.jsonl").read_text().partition("\n")
    messages = [f"{problem.sentence} The recording is left out.", "60 Hz is assumed."]
    header = json.dumps(json.loads(header) | {"problems": messages})
    (tmp_path / "store/index.jsonl").write_text(f"{header}\n{body}")
    again = RecordingStore.open(tmp_path / "store").problems[:2]
    assert [p.left_out for p in again] == [True, False]
    assert [p.sentence for p in again] == [problem.sentence, "60 Hz is assumed."]
    assert list(map(problem_message, again)) == messages


def test_damage_is_found(table, tmp_path):
    path = tmp_path / "store"
    convert(RecordingManifest(table), path)
    shard = path / "recordings-00000.bin"
    content = bytearray(shard.read_bytes())
    content[3] ^= 1
    shard.write_bytes(content)
    store = RecordingStore.open(path)
    with pytest.raises(
        DataError, match=r"00000\.bin is damaged at byte 0, in the series of .*0\.p"
    ):
        store.load(store.refs[0])
    assert store.load(store.refs[1]).label == 1
    shard.write_bytes(content[:700])
    store = RecordingStore.open(path)
    with pytest.raises(DataError, match="has 700 bytes where"):
        store.load(store.refs[9])
    with pytest.raises(DataError, match=r"has 700 bytes where .* delete"):
        convert(RecordingManifest(table), path)
    index = path / "index.jsonl"
    text = index.read_text()
    for spoilt in (text[:-20], "", text.replace('"label": 1', '"label": 2')):
        index.write_text(spoilt)
        with pytest.raises(DataError, match=r"index\.jsonl is damaged"):
            RecordingStore.open(path)
    index.write_text(text.replace('"version": 1', '"version": 9'))
    with pytest.raises(DataError, match="has version 9"):
        RecordingStore.open(path)
    with pytest.raises(DataError, match="is no store"):
        RecordingStore.open(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        convert(RecordingManifest(table), tmp_path / "file")


def test_a_series_is_read_fifty_times_faster_than_parsed(tmp_path):
    counts = np.random.default_rng(0).integers(0, 256, (20, 7680))
    for folder, suffix in (("VS_a", "csv"), ("VS_a", "png"), ("VL_a", "json")):
        (tmp_path / folder).mkdir(exist_ok=True)
        path = tmp_path / folder / f"x.{suffix}"
        if suffix == "csv":
            np.savetxt(path, counts, fmt="%d", delimiter=",")
        elif suffix == "png":
            cv2.imwrite(str(path), np.full((256, 256, 3), 9, np.uint8))
        else:
            path.write_text(json.dumps({"label": {"PD_type": 4}, "metadata": {}}))
    source = AiHub(tmp_path)
    store = convert(source, tmp_path / "store")
    assert_same(store, source)
    assert store.kinds[store.refs[0].label] == "void" and "60 Hz is assumed" in str(
        store.problems[-1]
    )
    csv, ref = source.refs[0].files["series"], store.refs[0]
    # The best of many: whatever else runs here slows single calls of both.
    parsing = best(lambda: read_counts_csv(csv, (20, 7680)), 15)
    assert parsing > 50 * best(lambda: store.counts(ref), 200)


def best(call, times: int) -> float:
    durations = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        durations.append(time.perf_counter() - start)
    return min(durations)

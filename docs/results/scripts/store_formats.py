"""Compare formats of the recordings' store: random windows, opening, size, building, a kill.

Recordings are made as the simulator's are in size: a series of whole counts, and a PNG. All
formats hold the same bytes of series (uint8) and picture, so that only the format differs. Every
format is read in a process of its own, formats in turns, in one shuffled order; processor time of
the best round counts, because other load disturbs it less than wall-clock time.
  python docs/results/scripts/store_formats.py --count 400 --output docs/results/store_formats.json
Zarr is measured where it is installed; chiasm does not depend on it.

ours      chiasm's store: memory-mapped files, an index of JSON lines
parquet N row groups of N recordings, not compressed; with "zstd", compressed
arrow     Arrow IPC file, record batches of 64, memory-mapped
zarr      an array of series, a chunk a recording, and one of pictures (padded), its own codecs
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from chiasm.diagnosis.readers.source import RecordingRef
from chiasm.diagnosis.readers.store import RecordingStore, convert
from chiasm.samples import RecordingSample

VALUES, CYCLE, WINDOW = 153_600, 128, 60 * 128
ROUNDS = 5
Read = Callable[[int, int], int]  # recording and start of a window, to a checksum


def recording(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return counts ``(1, T)`` and pixels ``(256, 256, 3)``, noise with a few pulses."""
    rng = np.random.default_rng(number)
    counts = np.clip(rng.normal(20, 3, VALUES), 0, 255).astype(np.uint8)
    counts[rng.integers(0, VALUES, 3000)] = rng.integers(40, 255, 3000)
    pixels = np.full((256, 256, 3), 255, np.uint8)
    pixels[rng.integers(0, 256, 4000), rng.integers(0, 256, 4000)] = rng.integers(0, 255, (4000, 3))
    return counts[None], pixels


class Made:
    """A source of made recordings."""

    name, kinds, problems = "made", ("normal",), ()

    def __init__(self, count: int) -> None:
        self.refs = tuple(
            RecordingRef(source=f"/data/session/{n:06d}.png", files={}, label=0, kind="normal",
                         group={"session": f"s{n // 100}"})
            for n in range(count)
        )  # fmt: skip

    def load(self, ref: RecordingRef) -> RecordingSample:
        """Return a recording."""
        counts, pixels = recording(int(Path(ref.source).stem))
        return RecordingSample(
            image=pixels.astype(np.float32) / np.float32(255), series=counts.astype(np.float32),
            frequency=60.0, samples_per_cycle=CYCLE, label=0, kind="normal",
            group=dict(ref.group), split="", source=ref.source,
        )  # fmt: skip

    def repairs(self, ref: RecordingRef) -> tuple[()]:
        """Nothing is repaired."""
        return ()


def rows(store: Path) -> Iterator[dict[str, Any]]:
    """Yield what every format holds of a recording."""
    source = RecordingStore(store)
    for ref in source.refs:
        counts, entry = source.counts(ref), source._entry(ref)
        assert counts is not None and entry.image is not None
        yield {
            "source": ref.source, "session": ref.group["session"],
            "series": counts.tobytes(), "image": source._shards.read(entry.image).tobytes(),
        }  # fmt: skip


def build(name: str, store: Path, path: Path, count: int) -> None:
    """Write a format from our store, or our store from the source."""
    kind, *options = name.split()
    if kind == "ours":
        convert(Made(count), path)
        return
    path.mkdir()
    if kind == "zarr":
        build_zarr(store, path, count)
        return
    group = int(options[0]) if options else 64
    schema = pa.schema([(n, pa.string()) for n in ("source", "session")]
                       + [(n, pa.binary()) for n in ("series", "image")])  # fmt: skip
    file = path / "part-00000"
    if kind == "arrow":
        writer: Any = pa.ipc.new_file(str(file), schema)
    else:
        compression = "zstd" if "zstd" in options else "none"
        writer = pq.ParquetWriter(file, schema, compression=compression, use_dictionary=False)
    with writer:
        batch: list[dict[str, Any]] = []
        for number, row in enumerate(rows(store), start=1):
            batch.append(row)
            if len(batch) == group or number == count:
                writer.write_table(pa.Table.from_pylist(batch, schema))
                batch = []


def build_zarr(store: Path, path: Path, count: int) -> None:
    """Write two arrays, with a chunk for each recording."""
    import zarr

    group = zarr.open_group(str(path), mode="w")
    everything = list(rows(store))
    longest = max(len(row["image"]) for row in everything)
    series = group.create_array("series", shape=(count, VALUES), chunks=(1, VALUES), dtype="uint8")
    images = group.create_array("image", shape=(count, longest), chunks=(1, longest), dtype="uint8")
    for number, row in enumerate(everything):
        series[number] = np.frombuffer(row["series"], np.uint8)
        padded = np.zeros(longest, np.uint8)
        padded[: len(row["image"])] = np.frombuffer(row["image"], np.uint8)
        images[number] = padded


def opened(name: str, path: Path) -> Read:
    """Open a format, and return what reads a window and the bytes of the picture."""
    kind, *options = name.split()
    if kind == "ours":
        store = RecordingStore(path)

        def read(number: int, start: int) -> int:
            ref = store.refs[number]
            counts, entry = store.counts(ref), store._entry(ref)
            assert counts is not None and entry.image is not None
            image = store._shards.read(entry.image)
            return int(counts[0, start : start + WINDOW].sum()) + image.nbytes

        return read
    if kind == "zarr":
        import zarr

        group: Any = zarr.open_group(str(path), mode="r")
        series, images = group["series"], group["image"]
        return lambda number, start: (
            int(series[number, start : start + WINDOW].sum()) + len(images[number])
        )
    file = path / "part-00000"
    if kind == "arrow":
        reader = pa.ipc.open_file(pa.memory_map(str(file)))
        columns = [reader.get_batch(i) for i in range(reader.num_record_batches)]

        def get(number: int) -> Any:
            return columns[number // 64], number % 64

    else:
        size = int(options[0])
        table = pq.ParquetFile(file, memory_map=True)

        def get(number: int) -> Any:
            return table.read_row_group(number // size, ["series", "image"]), number % size

    def read_rows(number: int, start: int) -> int:
        batch, place = get(number)
        counts = np.frombuffer(batch["series"][place].as_buffer(), np.uint8)
        return int(counts[start : start + WINDOW].sum()) + batch["image"][place].as_buffer().size

    return read_rows


def measure(name: str, path: Path, count: int, reads: int) -> dict[str, float]:
    """Return seconds to open, microseconds a read of the first pass and of later ones, memory."""
    rng = np.random.default_rng(0)
    windows = [
        (int(n), int(rng.integers(0, VALUES - WINDOW))) for n in rng.integers(0, count, reads)
    ]
    before = anonymous_mb()
    begun = time.process_time()
    read = opened(name, path)
    seconds = [time.process_time() - begun]
    for _ in range(2):
        begun = time.process_time()
        checksum = sum(read(*window) for window in windows)
        seconds.append(time.process_time() - begun)
    grown = anonymous_mb() - before
    first, later = (1e6 * s / reads for s in seconds[1:])
    return {"open_ms": 1e3 * seconds[0], "first_us": first, "later_us": later,
            "memory_mb": grown, "checksum": checksum}  # fmt: skip


def anonymous_mb() -> float:
    """Return the memory of this process that is no page of a file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def after_kill(name: str, path: Path, count: int) -> str:
    """Return what can be read after a writer was killed at three quarters, its file cut there."""
    kind = name.split()[0]
    if kind in ("ours", "zarr"):
        return "up to 64 recordings are made again" if kind == "ours" else "nothing by itself"
    file = path / "part-00000"
    cut = path / "cut"
    cut.write_bytes(file.read_bytes()[: int(file.stat().st_size * 0.75)])
    try:
        opened_rows = (
            pq.ParquetFile(cut).metadata.num_rows
            if kind == "parquet"
            else sum(1 for _ in range(pa.ipc.open_file(str(cut)).num_record_batches))
        )
    except Exception as error:
        return f"unreadable without its end ({type(error).__name__})"
    return f"{opened_rows} of {count} rows"


def main() -> None:
    """Measure all formats."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--reads", type=int, default=1000)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    names = ["ours", "parquet 1", "parquet 16", "parquet 64", "parquet 16 zstd", "arrow"]
    try:
        import zarr  # noqa: F401

        names.append("zarr")
    except ImportError:
        print("Zarr is not installed, so that it is left out.")
    context = multiprocessing.get_context("spawn")
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=arguments.output and arguments.output.parent) as folder:
        paths = {name: Path(folder) / name.replace(" ", "_") for name in names}
        for name in names:
            begun = time.process_time()
            build(name, paths["ours"], paths[name], arguments.count)
            size = sum(p.stat().st_size for p in paths[name].rglob("*") if p.is_file())
            found[name] = {"build_s": time.process_time() - begun, "megabytes": size / 1e6}
        for _ in range(ROUNDS):
            for name in names:
                with context.Pool(1) as pool:
                    one = pool.apply(measure, (name, paths[name], arguments.count, arguments.reads))
                best = found[name].setdefault("read", one)
                found[name]["read"] = {key: min(best[key], one[key]) for key in one}
        for name in names:
            found[name]["after_kill"] = after_kill(name, paths[name], arguments.count)
        shutil.rmtree(folder, ignore_errors=True)
    plain = {found[n]["read"].pop("checksum") for n in names if n != "zarr"}
    assert len(plain) == 1, "formats differ in what they hold"
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True)
    facts = SimpleNamespace(
        command=f"store_formats.py --count {arguments.count} --reads {arguments.reads}",
        commit=commit.stdout.decode().strip(), machine=f"{platform.machine()}, loaded",
        pyarrow=pa.__version__, cv2=cv2.__version__, seed=0,
        build_s="processor seconds; ours makes the recordings as well, the others copy ours",
        formats=found,
    )  # fmt: skip
    text = json.dumps(vars(facts), indent=1)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    main()

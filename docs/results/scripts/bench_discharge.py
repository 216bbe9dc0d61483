"""The second wing's speed and memory, each ratio measured in one process, turn and turn about.

Run on a quiet machine:
  chiasm data make recordings --recordings 60 --sessions 30
  python docs/results/scripts/bench_discharge.py --data recordings \
      --output docs/results/discharge_speed.json

reading    the series of 40 recordings, into memory, from the memory-mapped store against
           numpy's CSV reader and ours, which reads the picture and checks the triplet as well
precision  a training step of mad_small in bfloat16 against float32
latency    a diagnosis of one recording, both presets, and the peak memory of the process
mad_base   forward and backward of one whole recording, and the peak memory of the process
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from bench_speed import alternate
from record import machine

from chiasm.diagnosis.models.mad import mad_base, mad_small
from chiasm.diagnosis.readers.opening import open_source, open_store
from chiasm.samples import RecordingBatch


def reading(data: Path) -> dict[str, Any]:
    """Seconds to bring the series of some recordings into memory."""
    source = open_source(data)
    some = source.refs[:40]
    with tempfile.TemporaryDirectory() as cache:
        start = time.perf_counter()
        store = open_store(data, cache=Path(cache))
        conversion = time.perf_counter() - start
        same = {ref.source: ref for ref in store.refs}
        kept = [same[ref.source] for ref in some]
        files = [Path(ref.source).with_suffix(".csv") for ref in some]

        def mapped() -> list[np.ndarray]:
            return [np.array(store.counts(ref)) for ref in kept]

        def parsed() -> list[np.ndarray]:
            return [np.asarray(source.load(ref).series) for ref in some]

        def plain() -> list[np.ndarray]:
            return [np.loadtxt(file, delimiter=",", dtype=np.int64) for file in files]

        for ways in zip(mapped(), parsed(), plain()):
            first, *others = (one.reshape(-1) for one in ways)
            assert all(np.array_equal(first, other) for other in others)
        fast, ours, numpy = alternate(mapped, parsed, plain, rounds=5)
    return {
        "recordings": len(some),
        "conversion_of_all_s": conversion,
        "store_s": fast,
        "our_triplet_reader_s": ours,
        "numpy_csv_s": numpy,
        "ratio_to_our_reader": ours / fast,
        "ratio_to_numpy": numpy / fast,
    }


def batch_for(count: int, *, seconds: int = 2, size: int = 128) -> RecordingBatch:
    """Random recordings."""
    return RecordingBatch(
        image=torch.rand(count, 3, size, size),
        series=torch.rand(count, 1, seconds * 7680),
        label=torch.arange(count) % 5,
    )


def precision() -> dict[str, Any]:
    """Seconds of a training step of ``mad_small``, 24 recordings of the quick preset."""
    torch.manual_seed(0)
    network = mad_small(image_size=128).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    batch = batch_for(24)

    def step(low: bool) -> Callable[[], None]:
        def run() -> None:
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=low):
                logits = network(batch, density=False).logits
            assert batch.label is not None
            F.cross_entropy(logits.float(), batch.label).backward()
            optimizer.step()

        return run

    single, half = alternate(step(False), step(True), rounds=9)
    return {"float32_s": single, "bfloat16_s": half, "ratio": single / half}


def memory_mb() -> float:
    """Peak resident memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def latency(name: str) -> dict[str, Any]:
    """One whole recording, batch 1, on all cores."""
    torch.manual_seed(0)
    network = {"mad_small": mad_small, "mad_base": mad_base}[name]().eval()
    seconds = []
    with torch.inference_mode():
        batch = batch_for(1, seconds=20, size=256)
        for _ in range(23 if name == "mad_small" else 8):
            start = time.perf_counter()
            network(batch)
            seconds.append(time.perf_counter() - start)
    kept = seconds[3:]
    return {
        "p50_s": float(np.median(kept)),
        "p95_s": float(np.quantile(kept, 0.95)),
        "runs": len(kept),
        "peak_memory_mb": memory_mb(),
    }


def one_step_of_base(_: str) -> dict[str, Any]:
    """Forward and backward of ``mad_base`` on one recording of 20 s."""
    torch.manual_seed(0)
    network = mad_base().train()
    batch = batch_for(1, seconds=20, size=256)
    start = time.perf_counter()
    assert batch.label is not None
    F.cross_entropy(network(batch, density=False).logits, batch.label).backward()
    return {"seconds": time.perf_counter() - start, "peak_memory_mb": memory_mb()}


def apart(call: Callable[[str], dict[str, Any]], name: str = "") -> dict[str, Any]:
    """The call's result, of a process of its own, whose memory is its own as well."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(call, (name,))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    found = {
        "machine": machine(),
        "reading": reading(given.data),
        "precision": precision(),
        "latency": {name: apart(latency, name) for name in ("mad_small", "mad_base")},
        "mad_base_step": apart(one_step_of_base),
    }
    given.output.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))

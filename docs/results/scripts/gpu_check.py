"""Train, search and predict both wings on a device, and compare its scores with a processor's.

    python docs/results/scripts/gpu_check.py --device cuda --out gpu_check

Makes parts and recordings, trains a model of each kind on the device, and predicts the same samples
on the device and on the processor. The difference of two scores is a share of the alarm score, that
of two diagnoses a probability; the check fails above a thousandth. Then steps of ``adnas_paper``
and ``mad_base`` are timed. All figures are in ``OUT/gpu_check.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chiasm import api
from chiasm.detection.models.adnas import AdnasDetector
from chiasm.detection.readers.opening import open_source as open_parts
from chiasm.detection.scenes.maker import make_scenes
from chiasm.detection.training.segment import step_losses, to_device
from chiasm.diagnosis.batch import moved
from chiasm.diagnosis.readers.opening import open_store
from chiasm.diagnosis.simulator.simulator import make_recordings
from chiasm.errors import OutOfMemoryError
from chiasm.samples import RecordingBatch, RGBDBatch
from chiasm.training.device import AUTOCAST, device_errors, find_device, precision_on
from chiasm.training.schedule import OPTIMISERS

MOST = 1e-3  # difference of a score, as a share of the alarm score; of a probability
DETECTORS: dict[str, dict[str, Any]] = {
    "adnas_light": {"search.finalists": 2},
    "adnas_slim": {"search.finalists": 2},
    "btf": {},
    "shape_guided": {},
}
CLASSIFIERS: dict[str, dict[str, Any]] = {
    "fused_small": {"search.finalists": 2},
    "mad_small": {},
    "minirocket": {},
}
# Makes every stage as short as it can be, to test the script itself.
TINY_PARTS: dict[str, Any] = {
    "image_size": 64,
    "rounds": 1,
    "train_epochs": 1,
    "memory_entries": 500,
    "rotate": False,
    "search.epochs": 1,
    "search.final_epochs": 1,
    "search.final_steps": 1,
}
TINY_RECORDINGS: dict[str, Any] = {
    "pretrain_epochs": 1,
    "epochs": 1,
    "search.epochs": 1,
    "search.final_epochs": 1,
}


def main(arguments: list[str] | None = None) -> int:
    """Run the check; 1 where a difference is above the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("gpu_check"))
    parser.add_argument("--models", default=",".join([*DETECTORS, *CLASSIFIERS]))
    parser.add_argument("--minutes", type=float, default=2.0, help="of each training")
    parser.add_argument("--tiny", action="store_true", help="only test the script")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    device = find_device(chosen.device)
    names = [name for name in chosen.models.split(",") if name]
    chosen.out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {
        "device": _described(device),
        "torch": torch.__version__,
        "seed": chosen.seed,
        "models": {},
    }
    parts = [name for name in names if name in DETECTORS]
    recordings = [name for name in names if name in CLASSIFIERS]
    if parts:
        data = _parts(chosen.out / "parts", tiny=chosen.tiny)
        for name in parts:
            settings = DETECTORS[name] | (TINY_PARTS if chosen.tiny else {})
            report["models"][name] = _checked(chosen, name, data, settings, _compare_verdicts)
    if recordings:
        data = _recordings(chosen.out / "recordings", tiny=chosen.tiny)
        for name in recordings:
            tiny = {} if name == "minirocket" else {"preset": "quick", **TINY_RECORDINGS}
            settings = CLASSIFIERS[name] | (tiny if chosen.tiny else {})
            report["models"][name] = _checked(chosen, name, data, settings, _compare_diagnoses)
    report["steps"] = {
        "adnas_paper": _timed(_paper_step, device, tiny=chosen.tiny),
        "mad_base": _timed(_mad_step, device, tiny=chosen.tiny),
    }
    worst = max((row["difference"] for row in report["models"].values()), default=0.0)
    report["passed"] = bool(worst <= MOST)
    text = json.dumps(report, indent=2)
    (chosen.out / "gpu_check.json").write_text(text + "\n")
    print(text)
    return 0 if report["passed"] else 1


def _described(device: torch.device) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "processor"
    return f"{device} ({name})"


def _parts(folder: Path, *, tiny: bool) -> Path:
    counts = {"train": 8, "validation": 5, "test_good": 2, "test_per_defect": 1}
    if not tiny:
        counts = {name: 5 * count for name, count in counts.items()}
    if not (folder / "flange").exists():
        make_scenes(folder, products=("flange",), size=96 if tiny else 400, **counts)
    return folder / "flange"


def _recordings(folder: Path, *, tiny: bool) -> Path:
    if not folder.exists():
        make_recordings(folder, count=60 if tiny else 300, sessions=30, seed=3, workers=1)
    return folder


def _checked(
    chosen: argparse.Namespace,
    name: str,
    data: Path,
    settings: dict[str, Any],
    compare: Callable[[Path, Path, str], dict[str, float]],
) -> dict[str, float]:
    """Train a model on the device; return its minutes and what differs on the processor."""
    run = chosen.out / "runs" / name
    started = time.monotonic()
    api.train(
        api.make_config(
            overrides=[f"{key}={value}" for key, value in settings.items()],
            data=data,
            out=run,
            model=name,
            device=chosen.device,
            seed=chosen.seed,
            minutes=None if chosen.tiny or name == "minirocket" else chosen.minutes,
        )
    )
    minutes = (time.monotonic() - started) / 60
    return {"minutes": round(minutes, 2), **compare(run, data, chosen.device)}


def _compare_verdicts(run: Path, data: Path, device: str) -> dict[str, float]:
    here, there = (api.load(run, device=name) for name in ("cpu", device))
    source = open_parts(data)
    refs = [ref for ref in source.refs if ref.split == "test"]
    pairs = []
    for ref in refs:
        sample = source.load(ref)
        pairs.append([model.predict(sample) for model in (here, there)])
    alarm = here.display_threshold  # type: ignore[union-attr]
    differences = [abs(a.score - b.score) / abs(alarm) for a, b in pairs]
    return {
        "difference": float(np.max(differences)),
        "other_decisions": sum(a.defective != b.defective for a, b in pairs),
    }


def _compare_diagnoses(run: Path, data: Path, device: str) -> dict[str, float]:
    here, there = (api.load(run, device=name) for name in ("cpu", device))
    store = open_store(data)
    pairs = []
    for ref in store.refs[:40]:
        sample = store.load(ref)
        pairs.append([model.predict(sample) for model in (here, there)])
    differences = [
        max(abs(a.probabilities[kind] - b.probabilities[kind]) for kind in a.probabilities)
        for a, b in pairs
    ]
    return {
        "difference": float(np.max(differences)),
        "other_decisions": sum(a.kind != b.kind for a, b in pairs),
    }


def _timed(
    step: Callable[..., Callable[[], float]], device: torch.device, *, tiny: bool
) -> dict[str, Any]:
    """Return the median seconds of a step, its peak memory, and what its products are made in."""
    try:
        with device_errors(device, remedy="A smaller batch needs less."):
            run = step(device, tiny=tiny)
            run()  # prepares the kernels
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            seconds = [run() for _ in range(1 if tiny else 5)]
    except OutOfMemoryError as error:
        return {"error": str(error)}
    figures = {"seconds": round(float(np.median(seconds)), 4)}
    if device.type == "cuda":
        figures["peak_gib"] = round(torch.cuda.max_memory_allocated(device) / 2**30, 2)
    return figures | {"precision": precision_on(device, "auto")}


def _paper_step(device: torch.device, *, tiny: bool) -> Callable[[], float]:
    size, batch = (64, 2) if tiny else (256, 4)
    name = "adnas_slim" if tiny else "adnas_paper"
    builder = api.registered(name).builder
    detector: AdnasDetector = builder("concatenation", image_size=size).to(device)
    generator = torch.Generator().manual_seed(0)
    picture, other = (torch.rand(batch, 3, size, size, generator=generator) for _ in range(2))
    whole = torch.ones(batch, 1, size, size)
    mask = (picture[:, :1] > 0.9).float()
    clean = {"clean_rgb": picture, "clean_geometry": other}
    inputs = to_device(RGBDBatch(picture, other, whole, mask, **clean), device)
    return _step(
        device, detector, lambda: step_losses(detector, inputs, accumulate=1 if tiny else 2)
    )


def _mad_step(device: torch.device, *, tiny: bool) -> Callable[[], float]:
    options = {"image_size": 32, "series_length": 7680} if tiny else {}
    network = api.registered("mad_small" if tiny else "mad_base").builder(**options).to(device)
    count = 2 if tiny else 8
    example = moved(network.example_batch(count), device)
    batch = RecordingBatch(example.image, example.series)
    label = torch.arange(count, device=device) % 2

    def losses() -> list[torch.Tensor]:
        logits = network(batch, density=False).logits.float()
        return [torch.nn.functional.cross_entropy(logits, label)]

    return _step(device, network, losses)


def _step(device: torch.device, network: Any, losses: Callable[[], Any]) -> Callable[[], float]:
    half = AUTOCAST.get(precision_on(device, "auto"))
    weights = [p for p in network.train().parameters() if p.requires_grad]
    optimiser = OPTIMISERS["adamw"](weights, lr=1e-4)

    def run() -> float:
        started = time.perf_counter()
        optimiser.zero_grad()
        total = torch.zeros((), device=device)
        with torch.autocast(device.type, half, enabled=half is not None):
            for loss in losses():
                loss.backward()
                total += loss.detach()
        optimiser.step()
        float(total)  # waits for the device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    return run


if __name__ == "__main__":
    sys.exit(main())

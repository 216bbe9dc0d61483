"""The model card of an exported model: purpose, measurements and limits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chiasm.fusion.genotype import Genotype
from chiasm.runtime.deployment import Deployment


def detector_card(deployment: Deployment, *, genotype: Genotype | None, run: Path) -> str:
    """Return Markdown about an exported detector; its figures are those of ``run``'s report."""
    origin, sensors = deployment.origin, " and ".join(deployment.modalities)
    parts = [
        f"# {deployment.method} for {origin['data']}",
        f"Finds whether a part differs from good ones, and where. Input: {sensors}. "
        f"{_form(deployment)}",
        "## Intended use",
        "Parts of the product that it was trained on, seen by the same kind of sensor from the "
        "same viewpoint, xyz in metres and 0 for missing points. A station may sort by its "
        "decision if the figures below are good enough for that station; a person should check "
        "rejected parts.",
        "## Training data",
        f"{origin['training_samples']} good parts (data hash `{origin['training_data'][:16]}`, "
        f"seed {origin['seed']}); no defective part. Published weights inside: "
        f"{origin['backbone_weights'] or 'none'}.",
        *_acquisition(deployment),
        "## False alarms",
        _promise(deployment, run),
        "## Figures on the test split",
        _figures(run),
        "## The export",
        _parity(deployment.parity, origin.get("memory", {})),
    ]
    if genotype is not None:
        parts += ["## The fusion that was searched", f"```\n{genotype.summary()}\n```"]
    parts += [
        "## Limits",
        "- It finds differences from its training parts: a new batch of good parts that look "
        "different raises alarms, and a defect that neither sensor sees raises none.\n"
        "- Scores are comparable within this folder only; another precision has other scores.\n"
        "- The promise above holds for good parts like those of the calibration. Watch the "
        "scores, and calibrate again when they drift.\n"
        "- If good and bad parts were photographed on different backgrounds, every score looks "
        "good: compare the figures with the trivial ones beside them.",
    ]
    return "\n\n".join(parts) + "\n"


def _acquisition(deployment: Deployment) -> list[str]:
    """Return how the training parts were seen; nothing of models of earlier versions."""
    seen = deployment.acquisition
    if seen is None:
        return []
    frames = ", ".join(f"{width} x {height}" for height, width in seen.frames)
    sentences = [f"Frames of {frames} pixels."] if frames else []
    if seen.lamp is not None:
        lamps = ", ".join(map(str, seen.lamps))
        sentences.append(f"Lamp: {lamps}. Under another lamp nothing is promised.")
    if deployment.distance is not None:
        nearest, farthest = deployment.distance
        sentences.append(f"{nearest:.3g} to {farthest:.3g} m from the camera.")
    return ["## How the parts were seen", " ".join([*sentences, *seen.sentences])]


def classifier_card(deployment: Deployment, *, run: Path) -> str:
    """Return Markdown about an exported classifier; its figures are those of ``run``'s report."""
    origin = deployment.origin
    parts = [
        f"# {deployment.method}",
        f"Assigns a recording of partial discharge to one of {len(deployment.kinds)} classes "
        f"({', '.join(deployment.kinds)}), or to none (unknown). Input: "
        f"{' and '.join(deployment.modalities)}; one of them may be missing. {_form(deployment)}",
        "## Intended use",
        "Recordings by the kind of recorder, and of the kinds of equipment, that it was trained "
        "on. Its diagnosis is advice to a person who knows the equipment, not a trip signal.",
        "## Training data",
        f"{origin['training_samples']} labelled recordings (data hash "
        f"`{origin['training_data'][:16]}`), split by {origin['split_by']}; "
        f"{origin['validation_samples']} others set temperatures and the limit for 'unknown'.",
        *([f"The method was {origin['chosen']}"] if "chosen" in origin else []),
        "## Figures on the test split",
        _figures(run),
        "## The export",
        _parity(deployment.parity, {}),
        "## Limits",
        "- A class that is not in the training data is called 'unknown' only if the evidence is "
        "weak; it may also be taken for one of the classes.\n"
        "- Probabilities are calibrated on recordings like those of the validation.\n"
        "- Accuracy is lower for equipment that is not in the training recordings: see the figures "
        "of the split by equipment, if there are any.",
    ]
    return "\n\n".join(parts) + "\n"


def _form(deployment: Deployment) -> str:
    return f"{deployment.format}, {deployment.precision}; needs no PyTorch."


def _promise(deployment: Deployment, run: Path) -> str:
    rule = deployment.alarm_rule
    promised = rule.decides and rule.known_defects is None
    sentences = [f"At the export: {rule.promise if promised else f'**{rule.promise}**'}"]
    sentences += deployment.notes
    if promised:
        sentences.append(
            "On average means over many calibrations by as many normals. This one has a rate of "
            "its own, which nobody knows: it keeps the bound with the stated confidence."
        )
        sentences.append(
            "The search of the fusion also chose on these normals, so that the rate can be a "
            "little higher."
            if _selected_on_calibration(run)
            else "These normals were used neither for training nor for selection."
        )
    return (
        f"{' '.join(sentences)}\n\n`chiasm recalibrate` and `chiasm threshold` change this; "
        "`chiasm threshold FOLDER` says what holds now."
    )


def _selected_on_calibration(run: Path) -> bool:
    path = run / "learning.json"
    return path.is_file() and json.loads(path.read_text()).get("selection") == "validation"


def _figures(run: Path) -> str:
    path = run / "report" / "metrics.json"
    if not path.is_file():
        return "None yet: run `chiasm evaluate` on this run's data before the export."
    metrics = json.loads(path.read_text())
    rows = ["| figure | value | 95 % interval |", "| --- | --- | --- |"]
    rows += [f"| {name} | {value} | {interval} |" for name, value, interval in _rows(metrics)]
    return "\n".join(rows)


def _rows(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, str, str]]:
    """Return every figure with an interval, in the order of the file, without kinds of defect."""
    rows = []
    for key, value in tree.items():
        if not isinstance(value, Mapping) or key == "kinds":
            continue
        if set(value) == {"value", "low", "high"}:
            if value["value"] is None:
                continue
            has_interval = value["low"] is not None and value["high"] is not None
            interval = f"{value['low']:.3f} to {value['high']:.3f}" if has_interval else ""
            rows.append((" ".join((*path, key)), f"{value['value']:.3f}", interval))
        else:
            rows += _rows(value, (*path, key))
    return rows


def _parity(parity: Mapping[str, Any], memory: Mapping[str, int]) -> str:
    lines = [
        f"- {name.replace('_', ' ')}: {value:.4g}"
        if isinstance(value, float)
        else f"- {name.replace('_', ' ')}: {value}"
        for name, value in parity.items()
        if name not in ("limits", "summary")
    ]
    if memory:
        counts = ", ".join(f"{name} {count}" for name, count in memory.items())
        lines.append(f"- memory entries: {counts}")
    return (
        "Compared with the trained float32 model on data of neither training nor test:\n\n"
        + "\n".join(lines)
    )

"""The card that lies beside an exported model: what it is, what was measured, where it ends."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chiasm.fusion.genotype import Genotype
from chiasm.metrics.calibration import normals_needed
from chiasm.runtime.deployment import Deployment


def detector_card(deployment: Deployment, *, genotype: Genotype | None, run: Path) -> str:
    """Markdown about an exported detector; ``run`` is where its figures lie, if anywhere."""
    origin, sensors = deployment.origin, " and ".join(deployment.modalities)
    parts = [
        f"# {deployment.method} for {origin['data']}",
        f"Says whether a part is unlike the good ones, and where. Looks at {sensors}. "
        f"{_form(deployment)}",
        "## Intended use",
        "Parts of the product that it was trained on, seen by the same kind of sensor from the "
        "same viewpoint, xyz in metres and 0 where nothing was measured. A station may sort by "
        "its decision where the figures below are good enough for that station; a person should "
        "see what it rejects.",
        "## What it was trained on",
        f"{origin['training_samples']} good parts (data hash `{origin['training_data'][:16]}`, "
        f"seed {origin['seed']}); no defective part. Published weights inside: "
        f"{origin['backbone_weights'] or 'none'}.",
        "## False alarms",
        _promise(deployment),
        "## Figures on the test split",
        _figures(run),
        "## The export",
        _parity(deployment.parity, origin.get("memory", {})),
    ]
    if genotype is not None:
        parts += ["## The fusion that was searched", f"```\n{genotype.summary()}\n```"]
    parts += [
        "## Limits",
        "- It finds what is unlike its training parts: a new batch of good parts that look "
        "otherwise raises alarms, and a defect that neither sensor sees raises none.\n"
        "- A score is comparable within this folder only; another precision has other scores.\n"
        "- The promise above holds for good parts like those of the calibration. Watch the "
        "scores, and calibrate again when they drift.\n"
        "- If good and bad parts were photographed on different backgrounds, any score is easy: "
        "compare the figures with the trivial ones beside them.",
    ]
    return "\n\n".join(parts) + "\n"


def classifier_card(deployment: Deployment, *, run: Path) -> str:
    """Markdown about an exported classifier; ``run`` is where its figures lie, if anywhere."""
    origin = deployment.origin
    parts = [
        f"# {deployment.method}",
        f"Says which of {len(deployment.kinds)} classes ({', '.join(deployment.kinds)}) a "
        f"recording of partial discharge is of, or that it does not know. Looks at "
        f"{' and '.join(deployment.modalities)}; one of them may be missing. {_form(deployment)}",
        "## Intended use",
        "Recordings by the kind of recorder, and of the kinds of equipment, that it was trained "
        "on. Its diagnosis is advice to a person who knows the equipment, not a trip signal.",
        "## What it was trained on",
        f"{origin['training_samples']} labelled recordings (data hash "
        f"`{origin['training_data'][:16]}`), split by {origin['split_by']}; "
        f"{origin['validation_samples']} others chose temperatures and the least belief.",
        "## Figures on the test split",
        _figures(run),
        "## The export",
        _parity(deployment.parity, {}),
        "## Limits",
        "- A class that it never saw is called 'unknown' only where evidence is weak; it may "
        "also be taken for a known one.\n"
        "- Probabilities are calibrated on recordings like the validation's.\n"
        "- Equipment that was not among the training recordings is judged worse: see the figures "
        "of the split by equipment, where there are any.",
    ]
    return "\n\n".join(parts) + "\n"


def _form(deployment: Deployment) -> str:
    return f"{deployment.format}, {deployment.precision}; needs no PyTorch."


def _promise(deployment: Deployment) -> str:
    count, rate = len(deployment.calibration_scores), deployment.false_alarm_rate
    needed = normals_needed(rate)
    if count < needed:
        return (
            f"**Nothing is promised at {rate:.1%}**: {count} calibration normals are too few, "
            f"{needed} are needed. No part is called defective at that rate until there are more."
        )
    return (
        f"On average over calibration sets, at most {rate:.1%} of good parts raise an alarm; of "
        f"{count} good parts that neither trained nor selected anything. With so many, the rate "
        f"of this one set lies within about {2 * math.sqrt(rate * (1 - rate) / count):.1%} of it."
    )


def _figures(run: Path) -> str:
    path = run / "report" / "metrics.json"
    if not path.is_file():
        return "None yet: run `chiasm evaluate` on this run's data before the export."
    metrics = json.loads(path.read_text())
    rows = ["| figure | value | 95 % interval |", "| --- | --- | --- |"]
    rows += [f"| {name} | {value} | {interval} |" for name, value, interval in _rows(metrics)]
    return "\n".join(rows)


def _rows(tree: Mapping[str, Any], place: tuple[str, ...] = ()) -> list[tuple[str, str, str]]:
    """Every figure with an interval, in the order of the file; kinds of defect are left out."""
    found = []
    for key, value in tree.items():
        if not isinstance(value, Mapping) or key == "kinds":
            continue
        if set(value) == {"value", "low", "high"}:
            if value["value"] is None:
                continue
            known = value["low"] is not None and value["high"] is not None
            interval = f"{value['low']:.3f} to {value['high']:.3f}" if known else ""
            found.append((" ".join((*place, key)), f"{value['value']:.3f}", interval))
        else:
            found += _rows(value, (*place, key))
    return found


def _parity(parity: Mapping[str, Any], memory: Mapping[str, int]) -> str:
    lines = [
        f"- {name.replace('_', ' ')}: {value:.4g}"
        if isinstance(value, float)
        else f"- {name.replace('_', ' ')}: {value}"
        for name, value in parity.items()
        if name != "limits"
    ]
    if memory:
        kept = ", ".join(f"{name} {count}" for name, count in memory.items())
        lines.append(f"- descriptors of normals kept: {kept}")
    return (
        "Compared with the trained float32 model on parts that neither trained nor test it:\n\n"
        + "\n".join(lines)
    )

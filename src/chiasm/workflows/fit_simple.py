"""Fit a classifier that learns without gradient steps, from the same recordings as any other."""

from __future__ import annotations

import torch

from chiasm.classifiers.classifier import FittedClassifier, Labelled
from chiasm.runs.console import say
from chiasm.workflows.recording_bench import RecordingBench


@torch.no_grad()
def fit_simple(classifier: FittedClassifier, bench: RecordingBench) -> None:
    """Describe the recordings to learn from and to validate on, each as it is, and fit."""
    classifier.eval()
    say("Describing the recordings ...")
    learning = _described(classifier, bench, "learn_plain")
    validation = _described(classifier, bench, "classify_check")
    say("Fitting ...")
    classifier.fit(learning, validation, seed=bench.config.seed)


def _described(classifier: FittedClassifier, bench: RecordingBench, purpose: str) -> Labelled:
    described: list[dict[str, torch.Tensor]] = []
    labels: list[torch.Tensor] = []
    for (batch,) in bench.loader(purpose):
        described.append(classifier.describe(batch))
        labels.append(batch.label)
    joined = {name: torch.cat([one[name] for one in described]) for name in described[0]}
    return Labelled(joined, torch.cat(labels))

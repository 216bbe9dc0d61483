"""Train several methods and keep the one that validation recordings choose, and say why."""

from __future__ import annotations

import inspect
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.config import DiagnosisConfig
from chiasm.diagnosis.contract import read_contract
from chiasm.diagnosis.datamodule import DiagnosisDataModule, data_of_split, has_any
from chiasm.diagnosis.predictor import DiagnosisPredictor
from chiasm.diagnosis.procedures.train_members import OF_NETWORKS
from chiasm.diagnosis.readers.source import RecordingRef
from chiasm.diagnosis.scoring import score_recordings
from chiasm.errors import ConfigurationError
from chiasm.metrics.bootstrap import (
    draw_groups,
    macro_f1_figure,
    paired_group_bootstrap,
    percentile_interval,
)
from chiasm.registry import find_model
from chiasm.runs.console import say
from chiasm.runs.model_folder import CONTRACT, write_contract

FOLDER = "candidates"
CHOICE = "choice.json"
LEARNING, MODEL = "learning.json", "model"
DRAWS, LEVEL = 2000, 0.95
LEAST_SHARE = 0.2  # of the minutes, that must be left for a network to be begun


@dataclass(frozen=True, slots=True)
class Candidate:
    """How well a method diagnoses the validation recordings.

    Attributes:
        name: of the model.
        macro_f1, low, high: with its 95 % interval over groups of recordings.
        minutes: that its training took.
        tuned: whether an epoch of it was chosen on the same recordings, which flatters the figure.
    """

    name: str
    macro_f1: float
    low: float
    high: float
    minutes: float
    tuned: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen method.

    Attributes:
        name: of the model.
        sentence: says why.
        candidates: all of them, from the cheapest to the dearest.
    """

    name: str
    sentence: str
    candidates: tuple[Candidate, ...]


def train_one_of(
    data: DiagnosisDataModule, train: Callable[..., Any], *, started: float
) -> DiagnosisDataModule:
    """Train each method that takes all recordings, and copy the chosen one's model to the run.

    Each lies in ``candidates/NAME`` of the run, and one that is there already is not trained again.
    All have the same division, and no test recording is looked at.

    Args:
        data: of the run; its division is that of all.
        train: trains one method, given its settings and its data.
        started: ``time.monotonic()`` from which the minutes count. A method for which too few are
            left is not tried, which is said.

    Returns:
        The data of the chosen method; the choice is written to ``choice.json``.

    Raises:
        ConfigurationError: no method takes all recordings.
    """
    config, last = data.config, 0.0
    trained: dict[str, DiagnosisDataModule] = {}
    for name in find_model(config.model).among:
        member = _candidate(data, name)
        if member is None:
            say(f"{name} is not tried: {_why_not(data, name)}")
            continue
        folder = member.config.out
        if not (folder / MODEL / CONTRACT).exists():
            spent = (time.monotonic() - started) / 60
            left = None if config.minutes is None else config.minutes - spent
            if trained and left is not None and left < least_minutes(name, config, last):
                say(
                    f"{name} is not tried: {spent:.1f} of {config.minutes:g} minutes are spent. "
                    "Give more minutes to compare it."
                )
                continue
            say(f"Training {name} ...")
            settings = member.config.model_copy(update={"minutes": left})
            train(settings, data=data_of_split(settings, data.store, data.split))
            last = (time.monotonic() - started) / 60 - spent
        trained[name] = member
    if not trained:
        raise ConfigurationError(
            f"None of {', '.join(find_model(config.model).among)} takes all recordings. Name one "
            "model, for example model=mad_small, which takes pictures, series or both."
        )
    choice = _choose_by_validation(data, trained)
    _keep(data.config.out, trained[choice.name].config.out, choice)
    say(choice.sentence)
    return trained[choice.name]


def choose(
    labels: NDArray[np.int64],
    groups: Sequence[str],
    guesses: dict[str, NDArray[np.int64]],
    *,
    classes: int,
    minutes: dict[str, float],
    tuned: frozenset[str] = frozenset(),
) -> Choice:
    """Choose by macro-F1 on validation recordings.

    Of methods that are fitted in one call the one with the highest figure, of equal ones the
    cheapest. A network's best epoch was chosen on the same recordings, so that its figure flatters
    it: it is taken only where it is better beyond the chance of such recordings, that is where
    the interval of the paired difference lies above 0.

    Args:
        labels: ``(N,)``.
        groups: ``(N,)`` names of their sessions, or of other groups that belong together.
        guesses: model to its ``(N,)`` classes, from the cheapest to the dearest.
        classes: K.
        minutes: model to those of its training.
        tuned: models of which an epoch was chosen on these recordings.
    """
    figures = {name: macro_f1_figure(labels, found, classes) for name, found in guesses.items()}
    drawn = draw_groups(groups, stratify=None, draws=DRAWS)
    weights = drawn.counts[:, drawn.member]
    candidates = []
    for name, figure in figures.items():
        low, high = percentile_interval(figure.draws(weights), LEVEL)
        whole = float(figure.draws(np.ones((1, len(labels))))[0])
        candidates.append(Candidate(name, whole, low, high, round(minutes[name], 3), name in tuned))
    # Equal to three decimals is equal, and ``max`` keeps the first, which is the cheapest.
    plain = [c for c in candidates if not c.tuned] or candidates
    best = max(plain, key=lambda c: round(c.macro_f1, 3))
    reason = "the highest" if len(plain) > 1 else "the only one that was fitted in one call"
    if len(candidates) == 1:
        reason = "the only one that was trained"
    for other in (c for c in candidates if c.tuned and c is not best):
        gain = paired_group_bootstrap(
            figures[other.name], figures[best.name], groups, level=LEVEL, draws=DRAWS
        )
        words = f"{gain.difference:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"
        if gain.low > 0:
            reason = f"better than {best.name} beyond chance, {words}"
            best = other
        else:
            reason += (
                f"; {other.name}, whose epoch was chosen on the same recordings, is not better "
                f"beyond chance, {words}"
            )
    listed = ", ".join(
        f"{c.name} {c.macro_f1:.3f} ({c.low:.3f} to {c.high:.3f})" for c in candidates
    )
    sentence = (
        f"chosen: {best.name}, by macro-F1 on {len(labels)} validation recordings of "
        f"{len(set(groups))} groups ({listed}): {reason}."
    )
    return Choice(best.name, sentence, tuple(candidates))


def _candidate(data: DiagnosisDataModule, name: str) -> DiagnosisDataModule | None:
    """Return the data of a method; None where it cannot judge every recording of the run."""
    config, entry = data.config, find_model(name)
    parameters = inspect.signature(entry.builder).parameters
    modalities = modalities_for(data, name)
    if not modalities:
        return None
    settings = config.overrides() | {"data": config.data, "preset": config.preset}
    left_out = {"image_size", "segment"} - set(parameters)
    if entry.fitted:
        left_out |= set(OF_NETWORKS)
    settings = {k: v for k, v in settings.items() if k not in left_out}
    settings |= {"model": name, "modalities": modalities, "out": config.out / FOLDER / name}
    return data_of_split(DiagnosisConfig.make(**settings), data.store, data.split)


def modalities_for(data: DiagnosisDataModule, name: str) -> tuple[str, ...]:
    """Return those of a run's modalities that a method looks at; () where a recording has none.

    Only what the recordings have counts: trees, which take a series of recordings with both, take
    the pictures of patterns alone.
    """
    modalities = find_model(name).modalities_of(_present(data))
    return modalities if all(has_any(data.store, ref, modalities) for ref in _refs(data)) else ()


def _refs(data: DiagnosisDataModule) -> list[RecordingRef]:
    return [ref for refs in data.split.lists().values() for ref in refs]


def _present(data: DiagnosisDataModule) -> tuple[str, ...]:
    """Return the modalities that any recording of the run has."""
    return tuple(
        modality
        for modality in data.config.modalities
        if any(has_any(data.store, ref, (modality,)) for ref in _refs(data))
    )


def _why_not(data: DiagnosisDataModule, name: str) -> str:
    present = _present(data)
    modalities = find_model(name).modalities_of(present)
    if not modalities:
        return f"it does not take {' or '.join(present)}, which is all that the recordings have."
    lacking = sum(not has_any(data.store, ref, modalities) for ref in _refs(data))
    number = f"{lacking} recording{'s have' if lacking > 1 else ' has'}"
    return f"it takes {' or '.join(modalities)} alone, and {number} none."


def least_minutes(name: str, config: DiagnosisConfig, last: float) -> float:
    """Return the minutes that must be left to begin a method, given those of the one before.

    What is fitted in one call cannot be ended early, and may take twice as long as a cheaper one.
    """
    assert config.minutes is not None
    return 2 * last if find_model(name).fitted else LEAST_SHARE * config.minutes


def _choose_by_validation(
    data: DiagnosisDataModule, trained: dict[str, DiagnosisDataModule]
) -> Choice:
    guesses, minutes = {}, {}
    for name, member in trained.items():
        predictor = DiagnosisPredictor.load(member.config.out, device=data.config.device)
        scored = score_recordings(predictor, data.store, data.split.validation, single=False)
        guesses[name] = scored.guesses
        facts = json.loads((member.config.out / LEARNING).read_text())
        minutes[name] = float(facts["fit_minutes"])
    return choose(
        scored.labels,
        scored.group_names(data.config.split_by),
        guesses,
        classes=len(data.store.kinds),
        minutes=minutes,
        tuned=frozenset(name for name in trained if not find_model(name).fitted),
    )


def _keep(run: Path, folder: Path, choice: Choice) -> None:
    """Copy the chosen model and its learning curves, and write why it was chosen."""
    for name in ("logs", MODEL):
        shutil.rmtree(run / name, ignore_errors=True)
        if (folder / name).is_dir():
            shutil.copytree(folder / name, run / name)
    contract = read_contract(run / MODEL).model_copy(update={"chosen": choice.sentence})
    write_contract(run / MODEL, contract)
    (run / CHOICE).write_text(json.dumps(asdict(choice), indent=1) + "\n")

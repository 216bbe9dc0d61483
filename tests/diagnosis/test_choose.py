"""The choice among several methods by validation recordings."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from chiasm.diagnosis.config import DiagnosisConfig
from chiasm.diagnosis.procedures.choose import Choice, choose, least_minutes, modalities_for
from chiasm.diagnosis.readers.splits import RecordingSplit

LABELS = np.arange(200) % 4
GROUPS = [str(n // 4) for n in range(200)]


def _wrong(count: int) -> np.ndarray:
    guesses = LABELS.copy()
    guesses[:count] = (guesses[:count] + 1) % 4
    return guesses


def _choose(errors: dict[str, int]) -> Choice:
    return choose(
        LABELS,
        GROUPS,
        {name: _wrong(count) for name, count in errors.items()},
        classes=4,
        minutes=dict.fromkeys(errors, 1.0),
        tuned=frozenset({"network"}),
    )


def test_of_fitted_methods_the_better_and_of_equal_ones_the_cheaper_is_chosen() -> None:
    assert _choose({"trees": 20, "rocket": 10}).name == "rocket"
    assert _choose({"trees": 10, "rocket": 10}).name == "trees"


def test_a_network_is_taken_only_where_it_leads_beyond_chance() -> None:
    near, far = _choose({"trees": 12, "network": 8}), _choose({"trees": 60, "network": 8})
    assert near.name == "trees" and "not better beyond chance" in near.sentence
    assert far.name == "network" and "better than trees beyond chance" in far.sentence
    assert _choose({"network": 8}).name == "network"


def test_the_sentence_names_every_figure_and_what_it_is_of() -> None:
    choice = _choose({"trees": 40, "network": 8})
    assert choice.sentence.startswith(f"chosen: {choice.name}")
    assert "200 validation recordings of 50 groups" in choice.sentence
    for candidate in choice.candidates:
        assert candidate.low <= candidate.macro_f1 <= candidate.high
        assert f"{candidate.name} {candidate.macro_f1:.3f}" in choice.sentence


def test_methods_take_what_the_recordings_have() -> None:
    from chiasm.api.configuration import register_models

    register_models()

    def taken(*recordings: str) -> list[tuple[str, ...]]:
        store = SimpleNamespace(
            has_image=lambda ref: "image" in ref,
            counts=lambda ref: np.zeros(1) if "series" in ref else None,
        )
        split = RecordingSplit(recordings, recordings, ())  # type: ignore[arg-type]
        data = SimpleNamespace(
            config=SimpleNamespace(modalities=("image", "series")), store=store, split=split
        )
        names = ("excess_trees", "minirocket", "mad_small")
        return [modalities_for(data, name) for name in names]  # type: ignore[arg-type]

    both = ("image", "series")
    assert taken("image+series", "image+series") == [("series",), ("series",), both]
    assert taken("image", "image") == [("image",), (), ("image",)]
    assert taken("series") == [("series",), ("series",), ("series",)]
    assert taken("image", "image+series") == [(), (), both]


def test_what_cannot_end_within_the_minutes_is_not_begun(tmp_path) -> None:
    from chiasm.api.configuration import register_models

    register_models()
    config = DiagnosisConfig.make(data=tmp_path, out=tmp_path, model="auto", minutes=2.0)
    assert least_minutes("minirocket", config, last=0.7) == pytest.approx(1.4)
    # A network ends when its minutes do, so that it needs no more than a share of them.
    assert least_minutes("mad_small", config, last=0.7) == pytest.approx(0.4)

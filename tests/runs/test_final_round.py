from __future__ import annotations

from pathlib import Path

import pytest

from chiasm.runs.final_round import final_round


def test_finished_finalists_are_read_and_not_trained_again(tmp_path: Path):
    trained: list[str] = []

    def evaluate(fusion: str, number: int) -> dict[str, float]:
        trained.append(fusion)
        return {"validation_ap": number / 10}

    def figures(finalists: list[str], lengths: list[int]) -> list[dict[str, float]]:
        return final_round(
            finalists, record=tmp_path / "finalists.json", lengths=lengths, evaluate=evaluate
        )

    assert figures(["a", "b"], [4, 80]) == [{"validation_ap": 0.0}, {"validation_ap": 0.1}]
    # The record follows the fusion, not its number, and only for the same lengths.
    assert figures(["b", "c"], [4, 80]) == [{"validation_ap": 0.1}, {"validation_ap": 0.1}]
    assert trained == ["a", "b", "c"]
    figures(["a"], [5, 80])
    assert trained == ["a", "b", "c", "a"]


def test_an_interrupted_round_keeps_what_is_finished(tmp_path: Path):
    def fails_at_second(fusion: str, number: int) -> dict[str, float]:
        if number:
            raise KeyboardInterrupt
        return {"validation_ap": 0.5}

    record = tmp_path / "finalists.json"
    with pytest.raises(KeyboardInterrupt):
        final_round(["a", "b"], record=record, lengths=[1], evaluate=fails_at_second)
    figures = final_round(
        ["a", "b"], record=record, lengths=[1], evaluate=lambda *_: {"validation_ap": 0.7}
    )
    assert figures == [{"validation_ap": 0.5}, {"validation_ap": 0.7}]

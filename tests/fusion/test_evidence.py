"""The paper's propositions, with the corrections that they need."""

from __future__ import annotations

import pytest
import torch

from chiasm.errors import ChiasmError
from chiasm.fusion.evidence import Opinion, combine, opinion_from_evidence


def opinion(belief: list[float], uncertainty: float) -> Opinion:
    return Opinion(
        torch.tensor(belief, dtype=torch.float64), torch.tensor(uncertainty, dtype=torch.float64)
    )


def random_opinions(count: int, classes: int, seed: int) -> Opinion:
    generator = torch.Generator().manual_seed(seed)
    mass = -torch.rand(count, classes + 1, dtype=torch.float64, generator=generator).log()
    mass = mass / mass.sum(dim=1, keepdim=True)
    return Opinion(mass[:, :classes], mass[:, classes])


def test_masses_sum_to_one():
    evidence = torch.rand(50, 4) * 10
    opinion = opinion_from_evidence(evidence)
    torch.testing.assert_close(opinion.belief.sum(-1) + opinion.uncertainty, torch.ones(50))
    both = combine(opinion, opinion_from_evidence(torch.rand(50, 4)))
    torch.testing.assert_close(both.belief.sum(-1) + both.uncertainty, torch.ones(50))


def test_probabilities_are_not_evidence():
    opinion = opinion_from_evidence(torch.softmax(torch.randn(20, 5), dim=1))
    torch.testing.assert_close(opinion.uncertainty, torch.full((20,), 5 / 6))


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_proposition_1_holds_under_its_condition(classes):
    late, middle = random_opinions(20_000, classes, 1), random_opinions(20_000, classes, 2)
    fused = combine(late, middle)
    meets = middle.belief[:, 0] >= late.belief.max(dim=1).values
    assert meets.any()
    assert (fused.belief[meets, 0] >= late.belief[meets, 0] - 1e-12).all()


def test_the_exact_condition_of_proposition_1():
    late, middle = random_opinions(20_000, 3, 3), random_opinions(20_000, 3, 4)
    fused = combine(late, middle)
    left = middle.belief[:, 0] * (late.belief[:, 0] + late.uncertainty)
    right = late.belief[:, 0] * (middle.belief * (late.belief + late.uncertainty[:, None])).sum(
        dim=1
    )
    clear = (left - right).abs() > 1e-9
    rises = fused.belief[:, 0] >= late.belief[:, 0]
    assert torch.equal(rises[clear], (left >= right)[clear])


def test_a_rising_mass_may_still_flip_the_prediction():
    fused = combine(opinion([0.3, 0.29], 0.41), opinion([0.3, 0.7], 0.0))
    assert fused.belief[0] > 0.3
    assert fused.belief.argmax() == 1


def test_more_belief_in_the_truth_alone_is_not_enough():
    late = opinion([0.2, 0.6], 0.2)
    fused = combine(late, opinion([0.2, 0.8], 0.0))
    torch.testing.assert_close(float(fused.belief[0]), 1 / 9)
    assert fused.belief[0] < late.belief[0]


def test_the_tighter_bound_of_proposition_2():
    late, middle = random_opinions(20_000, 3, 5), random_opinions(20_000, 3, 6)
    gap = late.belief[:, 0] - combine(late, middle).belief[:, 0]
    assert (gap <= late.belief[:, 0] * (1 - middle.uncertainty) + 1e-12).all()


def test_knowing_nothing_changes_nothing():
    late = opinion([0.5, 0.3], 0.2)
    fused = combine(late, opinion([0.0, 0.0], 1.0))
    torch.testing.assert_close(fused.belief, late.belief)


def test_the_gap_itself_may_rise_with_uncertainty():
    late = opinion([0.5, 0.3], 0.2)
    gaps = [
        float(late.belief[0] - combine(late, opinion([1 - u, 0.0], u)).belief[0])
        for u in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    assert gaps == sorted(gaps)
    assert gaps[0] < gaps[-1]


def test_total_conflict_is_refused():
    with pytest.raises(ChiasmError, match="contradict"):
        combine(opinion([1.0, 0.0], 0.0), opinion([0.0, 1.0], 0.0))

"""Banks of normal descriptors: what they keep, what they weigh, and whom they find."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from chiasm.detection.layers.memory_bank import MEGABYTE, MemoryBank
from chiasm.detection.layers.nearest import greedy_k_centres
from chiasm.errors import ArtifactError, ConfigurationError, DataError

EXACT = ["torch", "faiss_flat"]
EVERY = [*EXACT, "faiss_ivf", "faiss_hnsw"]
SELECTIONS = ["random", "coreset"]
D = 12


@pytest.fixture(autouse=True)
def _need_faiss(request):
    call = getattr(request.node, "callspec", None)
    index = "" if call is None else str(call.params.get("index", ""))
    if index.startswith("faiss") and importlib.util.find_spec("faiss") is None:
        pytest.skip("faiss is not installed")


def descriptors(count=3000, seed=0, parts=10):
    """Clusters of very different sizes, as flat regions and rare edges of parts have."""
    generator = torch.Generator().manual_seed(seed)
    centres = 5 * torch.randn(20, D, generator=generator)
    share = torch.multinomial(0.6 ** torch.arange(20.0), count, True, generator=generator)
    values = centres[share] + 0.3 * torch.randn(count, D, generator=generator)
    return values, torch.randint(parts, (count,), generator=generator)


def megabytes(rows):
    return rows * (4 * D + 8) / MEGABYTE


def filled(values, owners, *, batch=257, **settings):
    bank = MemoryBank(D, **{"bank_mb": 1.0, **settings})
    for start in range(0, len(values), batch):
        bank.add(values[start : start + batch], owners[start : start + batch])
        assert bank.bytes_used <= bank.budget
    bank.finish()
    return bank


def brute_force(query, bank, count, owners=None):
    table = (query[:, None].double() - bank.descriptors[None].double()).norm(dim=2)
    if owners is not None:
        table[owners[:, None] == bank.owner[None]] = float("inf")
    nearest = table.sort(dim=1)
    return nearest.values[:, :count].float(), nearest.indices[:, :count]


def covering_radius(points, centres):
    return torch.cdist(points, centres).min(dim=1).values.max()


# What stays


@pytest.mark.parametrize("seed", range(5))
def test_the_coreset_covers_better_than_chance(seed):
    values, owners = descriptors(seed=seed)
    radius = {
        selection: covering_radius(
            values,
            filled(values, owners, selection=selection, bank_mb=megabytes(200)).descriptors,
        )
        for selection in SELECTIONS
    }
    assert radius["coreset"] < 0.9 * radius["random"]


@pytest.mark.parametrize("seed", range(3))
def test_a_projected_coreset_still_covers_better_than_chance(seed):
    values, owners = descriptors(seed=seed)
    few = {"bank_mb": megabytes(200), "seed": seed}
    projected = filled(values, owners, projection=6, **few)
    chance = filled(values, owners, selection="random", **few)
    assert covering_radius(values, projected.descriptors) < covering_radius(
        values, chance.descriptors
    )


@pytest.mark.parametrize("selection", SELECTIONS)
def test_a_seed_gives_one_bank_however_the_stream_was_cut(selection):
    values, owners = descriptors()
    settings = {"selection": selection, "bank_mb": megabytes(150), "projection": 8}
    whole = filled(values, owners, batch=len(values), **settings)
    for batch in (1, 7, 1000):
        cut = filled(values, owners, batch=batch, **settings)
        assert torch.equal(cut.descriptors, whole.descriptors)
        assert torch.equal(cut.owner, whole.owner)
    other = filled(values, owners, seed=1, **settings)
    assert not torch.equal(other.descriptors[:75], whole.descriptors[:75])


@pytest.mark.parametrize("selection", SELECTIONS)
def test_a_bank_with_room_for_all_keeps_all(selection):
    values, owners = descriptors(500)
    bank = filled(values, owners, selection=selection, bank_mb=megabytes(500))
    order = owners.argsort(stable=True)
    assert torch.equal(bank.descriptors, values[order])
    assert torch.equal(bank.owner, owners[order])


@pytest.mark.parametrize("selection", SELECTIONS)
def test_descriptors_keep_their_owner(selection):
    values, owners = descriptors()
    bank = filled(values, owners, selection=selection, bank_mb=megabytes(100))
    row = (bank.descriptors[:, None] == values[None]).all(dim=2).long().argmax(dim=1)
    assert torch.equal(values[row], bank.descriptors)
    assert torch.equal(owners[row], bank.owner)
    assert len(row.unique()) == len(bank), "a descriptor was kept twice"


def test_the_reservoir_keeps_early_and_late_descriptors_alike():
    place = torch.arange(400.0)[:, None].expand(-1, D)
    kept = torch.cat(
        [
            filled(
                place, place[:, 0].long(), seed=seed, selection="random", bank_mb=megabytes(20)
            ).owner
            for seed in range(200)
        ]
    )
    quarters = torch.bincount(kept // 100, minlength=4) / len(kept)
    # Each quarter has a share of 1/4 with a deviation of 0.007.
    assert (quarters - 0.25).abs().max() < 0.035


def test_centres_are_those_of_one_choice_at_a_time():
    values, _ = descriptors(900)
    chosen = [17]
    distance = (values - values[17]).norm(dim=1)
    while len(chosen) < 300:
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (values - values[chosen[-1]]).norm(dim=1))
    assert greedy_k_centres(values, 300, first=17).tolist() == chosen


def test_no_centre_is_chosen_twice_even_among_equal_points():
    chosen = greedy_k_centres(torch.ones(300, 3), 290, first=5)
    assert chosen[0] == 5 and len(chosen.unique()) == 290
    assert len(greedy_k_centres(torch.ones(3, 3), 5)) == 3


# What it weighs


@pytest.mark.parametrize("index", EVERY)
@pytest.mark.parametrize("bank_mb", [0.02, 0.0531, 0.15])
def test_the_budget_is_kept_and_used(index, bank_mb):
    values, owners = descriptors(4000)
    bank = filled(values, owners, index=index, selection="random", bank_mb=bank_mb)
    stored = bank.descriptors.nbytes + bank.owner.nbytes
    assert bank.descriptors.untyped_storage().nbytes() == bank.descriptors.nbytes
    if index in EXACT:
        assert bank.bytes_used == stored
        assert bank.budget - stored < 4 * D + 8, "another descriptor would fit"
    else:
        import faiss

        written = faiss.serialize_index(bank._built._index).nbytes
        assert bank.bytes_used == stored + written
        assert bank.bytes_used > 0.75 * bank.budget - 8192
    assert bank.bytes_used <= bank.budget == int(bank_mb * MEGABYTE)


@pytest.mark.parametrize("index", EVERY)
def test_a_budget_below_the_minimum_is_refused_and_the_one_named_works(index):
    with pytest.raises(ConfigurationError, match="a bank needs 8") as refusal:
        MemoryBank(D, bank_mb=0.0003, index=index)
    named = float(str(refusal.value).split("Set bank_mb to ")[1].split(" ")[0])
    bank = filled(*descriptors(100), index=index, bank_mb=named, selection="random")
    assert len(bank) >= 8


# Whom it finds


@pytest.mark.parametrize("index", EXACT)
@pytest.mark.parametrize("count", [1, 5])
def test_exact_search_equals_brute_force(index, count):
    values, owners = descriptors()
    bank = filled(values, owners, index=index, bank_mb=megabytes(700))
    query = torch.cat([descriptors(200, seed=9)[0], bank.descriptors[:30]])
    distances, numbers = bank(query, count=count)
    expected, rows = brute_force(query, bank, count)
    torch.testing.assert_close(distances, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(numbers, rows)
    assert torch.equal(distances[-30:, 0], torch.zeros(30))


@pytest.mark.parametrize("index", EXACT)
def test_a_part_is_not_compared_with_itself(index):
    values, owners = descriptors()
    bank = filled(values, owners, index=index, bank_mb=megabytes(700))
    mine = torch.where(torch.arange(len(bank)) % 3 == 0, -1, bank.owner)
    distances, numbers = bank(bank.descriptors, mine, count=3)
    expected, rows = brute_force(bank.descriptors, bank, 3, mine)
    torch.testing.assert_close(distances, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(numbers, rows)


@pytest.mark.parametrize("index", ["faiss_ivf", "faiss_hnsw"])
def test_approximate_search_finds_most_neighbours_and_never_ones_own(index):
    torch.manual_seed(0)
    values, owners = descriptors(parts=5)
    bank = filled(values, owners, index=index, bank_mb=1.0)
    query, mine = values[::10] + 0.1 * torch.randn(300, D), owners[::10]
    for asking in (None, mine):
        distances, numbers = bank(query, asking, count=4)
        expected, rows = brute_force(query, bank, 4, asking)
        recall = (numbers[:, :, None] == rows[:, None]).any(dim=2).float().mean()
        assert recall > 0.8
        assert (distances >= expected - 1e-5).all()
    assert (bank.owner[numbers] != mine[:, None]).all()


@pytest.mark.parametrize("index", ["faiss_ivf", "faiss_hnsw"])
def test_an_approximate_search_that_meets_too_few_is_done_exactly(index):
    values, owners = descriptors(1000)
    bank = filled(values, owners, index=index, probes=1)
    count = len(bank) - 1
    distances, numbers = bank(values[:3], count=count)
    torch.testing.assert_close(
        distances, brute_force(values[:3], bank, count)[0], rtol=1e-5, atol=1e-6
    )
    assert numbers.min() >= 0


@pytest.mark.parametrize("index", EVERY)
def test_no_query_gives_no_neighbours(index):
    bank = filled(*descriptors(200), index=index)
    distances, numbers = bank(torch.zeros(0, D), count=2)
    assert distances.shape == numbers.shape == (0, 2)


# Storing


@pytest.mark.parametrize("index", EVERY)
def test_a_stored_bank_answers_as_before(index, tmp_path):
    values, owners = descriptors()
    settings = {"index": index, "bank_mb": 0.1}
    bank = filled(values, owners, **settings)
    save_file(bank.state_dict(), tmp_path / "bank.safetensors")
    again = MemoryBank(D, **settings)
    again.load_state_dict(load_file(tmp_path / "bank.safetensors"))
    query, mine = descriptors(50, seed=3)
    for before, after in zip(bank(query, mine, count=3), again(query, mine, count=3)):
        assert torch.equal(before, after)
    assert again.bytes_used == bank.bytes_used


def test_a_stored_bank_that_does_not_fit_is_refused():
    bank = filled(*descriptors(), bank_mb=0.1)
    with pytest.raises(ArtifactError, match="takes at most"):
        MemoryBank(D, bank_mb=0.01).load_state_dict(bank.state_dict())
    with pytest.raises(ArtifactError, match="of 12 values"):
        MemoryBank(D + 1, bank_mb=0.1).load_state_dict(bank.state_dict())


# Mistakes


@pytest.mark.parametrize("count", [0, -1])
def test_zero_neighbours_are_refused(count):
    with pytest.raises(ConfigurationError, match="it must be at least 1 nearest neighbour"):
        filled(*descriptors(50))(torch.zeros(1, D), count=count)


def test_more_neighbours_than_entries_are_refused():
    bank = filled(descriptors(20)[0], torch.arange(20) // 15)
    with pytest.raises(ConfigurationError, match="the bank has 20 entries;"):
        bank(torch.zeros(1, D), count=21)
    with pytest.raises(ConfigurationError, match="5 entries without those of part 0"):
        bank(torch.zeros(1, D), torch.tensor([0]), count=6)


def test_steps_out_of_order_are_refused():
    bank = MemoryBank(D, bank_mb=1)
    with pytest.raises(DataError, match="empty"):
        bank.finish()
    values, owners = descriptors(50)
    bank.add(values, owners)
    with pytest.raises(DataError, match="call finish"):
        bank(values)
    bank.finish()
    with pytest.raises(DataError, match="is finished"):
        bank.add(values, owners)


def test_descriptors_of_another_shape_or_not_finite_are_refused():
    bank = MemoryBank(D, bank_mb=1)
    with pytest.raises(DataError, match=r"shape \(3, 5\)"):
        bank.add(torch.zeros(3, 5), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(DataError, match="every descriptor has one owner"):
        bank.add(torch.zeros(3, D), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(DataError, match="NaN or infinite"):
        bank.add(torch.full((3, D), np.nan), torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize(
    ("setting", "value"),
    [("selection", "best"), ("index", "tree"), ("projection", 0), ("probes", 0), ("dimension", 0)],
)
def test_a_setting_out_of_range_is_refused(setting, value):
    with pytest.raises(ConfigurationError, match=f"{setting} is"):
        MemoryBank(**{"dimension": D, "bank_mb": 1.0, setting: value})


def test_faiss_is_missed_in_a_sentence(monkeypatch):
    def refuse(name):
        raise ImportError(name)

    monkeypatch.setattr("chiasm.detection.layers.nearest.importlib.import_module", refuse)
    with pytest.raises(ConfigurationError, match=r"pip install 'chiasm\[rivals\]'"):
        MemoryBank(D, bank_mb=1, index="faiss_flat")
    assert len(MemoryBank(D, bank_mb=1)) == 0

"""Few shots, calibration and test: reproducible, and without one part in two lists."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from chiasm.detection.readers.mvtec3d import Mvtec3d
from chiasm.detection.readers.plain_folder import PlainFolder
from chiasm.detection.readers.source import SampleRef
from chiasm.detection.readers.splits import (
    SELECTION_SHARE,
    Split,
    check_disjoint,
    divide_as_published,
    divide_for_search,
    make_splits,
    set_aside,
    shared_files,
)
from chiasm.errors import ConfigurationError, DataError, SplitError
from chiasm.files.content_hash import content_hash
from chiasm.files.images import write_rgb, write_xyz


class Listed:
    """A source of references without files; splitting reads none."""

    name = "listed"

    def __init__(self, *refs: SampleRef) -> None:
        self.refs = refs


def refs(split: str, number: int, *, label: int | None = 0, group: str = "") -> list[SampleRef]:
    names = [f"{group}{split}{label}-{i}" for i in range(number)]
    return [
        SampleRef(source=n, files={"rgb": Path(n)}, split=split, label=label, group=group)
        for n in names
    ]


def names(listed) -> list[str]:
    return [ref.source for ref in listed]


SOURCE = Listed(
    *refs("train", 20), *refs("train", 3, label=1), *refs("validation", 4), *refs("test", 5)
)


@pytest.mark.parametrize("shots", [5, 10])
def test_few_shots_are_reproducible_and_depend_on_the_seed(shots):
    split = make_splits(SOURCE, shots=shots, seed=3)
    assert len(set(names(split.train))) == shots
    assert split == make_splits(SOURCE, shots=shots, seed=3)
    chosen = {tuple(names(make_splits(SOURCE, shots=shots, seed=s).train)) for s in range(8)}
    assert len(chosen) > 4


def test_fewer_shots_are_a_subset_of_more():
    for source in (SOURCE, Listed(*refs("train", 20))):
        five, ten = (set(names(make_splits(source, shots=n, seed=1).train)) for n in (5, 10))
        assert five < ten


def test_only_good_parts_are_learnt_from_and_the_validation_split_calibrates():
    defective = refs("validation", 2, label=1)
    split = make_splits(Listed(*SOURCE.refs, *defective))
    assert names(split.train) == names(refs("train", 20))
    assert names(split.calibration) == names(refs("validation", 4))
    assert names(split.test) == names(refs("test", 5))


@pytest.mark.parametrize("seed", range(4))
def test_without_validation_a_share_of_the_training_parts_calibrates(seed):
    split = make_splits(Listed(*refs("train", 20), *refs("test", 3)), seed=seed)
    assert (len(split.train), len(split.calibration), len(split.test)) == (16, 4, 3)
    everything = names([*split.train, *split.calibration, *split.test])
    assert len(set(everything)) == 23
    shot = make_splits(Listed(*refs("train", 20), *refs("test", 3)), seed=seed, shots=5)
    assert shot.calibration == split.calibration
    assert set(names(shot.train)) < set(names(split.train))


@pytest.mark.parametrize("seed", range(4))
def test_groups_are_never_divided(seed):
    parts = [ref for group in "abcd" for ref in refs("train", 5, group=group)]
    split = make_splits(Listed(*parts), seed=seed)
    assert split.train and split.calibration
    assert not {r.group for r in split.train} & {r.group for r in split.calibration}


@pytest.mark.parametrize("seed", range(3))
def test_a_large_group_is_passed_over(seed):
    groups = ["large"] * 27 + ["small"] * 3
    assert set_aside(groups, 0.2, np.random.default_rng(seed)) == {27, 28, 29}
    # Parts without a name stand alone, and beside a named group each is drawn by itself.
    few = set_aside(["large"] * 10 + [""] * 10, 0.2, np.random.default_rng(seed))
    assert len(few) == 4 and min(few) >= 10


def test_too_few_parts_are_refused():
    with pytest.raises(SplitError, match=r"listed has no training parts among its 2 samples"):
        make_splits(Listed(*refs("test", 2)))
    with pytest.raises(SplitError, match=r"listed has 2 training parts but none .*labelled good"):
        make_splits(Listed(*refs("train", 2, label=1)))
    with pytest.raises(SplitError, match=r"listed has one good training part and no validation"):
        make_splits(Listed(*refs("train", 1)))
    with pytest.raises(SplitError, match=r"17 shots .*listed has 16 training"):
        make_splits(Listed(*refs("train", 20)), shots=17)


@pytest.mark.parametrize(
    "wrong", [{"shots": 0}, {"calibration_share": 0}, {"calibration_share": 1}]
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        make_splits(SOURCE, **wrong)


@pytest.fixture
def category(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for folder in ("train/good", "validation/good", "test/good", "test/cut"):
        for stem in ("000", "001"):
            folder = tmp_path / "peg" / folder
            write_rgb(folder / f"rgb/{stem}.png", rng.random((4, 4, 3), dtype=np.float32))
            write_xyz(folder / f"xyz/{stem}.tiff", rng.random((4, 4, 3)))
    return tmp_path / "peg"


def test_lists_without_a_shared_file_pass(category):
    check_disjoint(make_splits(Mvtec3d(category)))


def test_zero_training_images_on_disk_are_refused_by_name(category):
    for path in (category / "train/good").glob("*/*"):
        path.unlink()
    with pytest.raises(SplitError, match=r"peg has no training parts among its 6 samples"):
        make_splits(Mvtec3d(category))
    folder = category / "test/good"
    with pytest.raises(SplitError, match=r"good has no training parts"):
        make_splits(PlainFolder(folder))


def test_the_same_path_in_two_lists_is_refused(category):
    split = make_splits(Mvtec3d(category))
    shared = split.train[1]
    with pytest.raises(SplitError, match=rf"{shared.source} in the training list is also in the"):
        check_disjoint(Split(split.train, split.calibration, (*split.test, shared)))
    with pytest.raises(SplitError, match=r"calibration list is also in the test list"):
        check_disjoint(Split(split.train, split.calibration, (*split.test, split.calibration[0])))


@pytest.mark.parametrize("file", ["rgb/001.png", "xyz/001.tiff"])
@pytest.mark.parametrize("folder", ["validation/good", "test/cut"])
def test_the_same_content_under_another_name_is_refused(category, file, folder):
    first, second = category / "train/good" / file, category / folder / file
    second.write_bytes(first.read_bytes())
    os.utime(second, (1, 1))
    with pytest.raises(SplitError, match=rf"{first} in the training list .*content as {second}"):
        check_disjoint(make_splits(Mvtec3d(category)))


def test_files_of_equal_size_and_other_content_pass(category):
    for folder, byte in (("train/good", b"a"), ("validation/good", b"b"), ("test/cut", b"c")):
        (category / folder / "rgb/000.png").write_bytes(byte * 50)
    check_disjoint(make_splits(Mvtec3d(category)))


def test_the_hash_is_of_contents_in_order_with_borders_between(tmp_path):
    for name, content in (("a", b"12"), ("b", b"3"), ("c", b"1"), ("d", b"23"), ("e", b"12")):
        (tmp_path / name).write_bytes(content)
    a, b, c, d, e = (tmp_path / name for name in "abcde")
    assert content_hash([a, b]) == content_hash([str(e), b])
    assert len({content_hash(x) for x in ([a, b], [b, a], [c, d], [a], [])}) == 5
    inner = hashlib.blake2b(b"12", digest_size=32).digest()
    assert content_hash([a]) == hashlib.blake2b(inner, digest_size=16).hexdigest()
    with pytest.raises(DataError, match=r"nix cannot be opened"):
        content_hash([tmp_path / "nix"])


@pytest.mark.parametrize("count", [4, 5, 20, 101])
@pytest.mark.parametrize("share", [0.2, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_weights_architecture_and_selection_share_no_part(count: int, share: float, seed: int):
    parts = divide_for_search([""] * count, share, seed=seed)
    three = (parts.weights, parts.architecture, parts.selection)
    assert all(three)
    assert sum(map(len, three)) == len(frozenset().union(*three)) == count
    assert parts.shared == ""
    assert parts == divide_for_search([""] * count, share, seed=seed)
    # The selection is what was set aside before there were three.
    assert parts.selection == set_aside([""] * count, share, np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_whole_in_weights_architecture_and_selection(seed: int):
    groups = [f"lot {number // 4}" for number in range(40)] + ["", ""]
    parts = divide_for_search(groups, 0.25, seed=seed)
    names = [
        {groups[i] or f"alone {i}" for i in some}
        for some in (parts.weights, parts.architecture, parts.selection)
    ]
    assert sum(map(len, names)) == len(set().union(*names)) == 12


@pytest.mark.parametrize(
    ("groups", "said"),
    [(["", ""], "one training part is"), (["a", "a", "a", "b"], "3 parts of one group are")],
)
def test_what_few_parts_share_is_said_and_is_never_the_selection(groups: list[str], said: str):
    parts = divide_for_search(groups, 0.2, seed=0)
    assert said in parts.shared
    assert parts.weights == parts.architecture
    assert not parts.weights & parts.selection
    assert parts.weights | parts.selection == set(range(len(groups)))


@pytest.mark.parametrize("count", [10, 51, 200])
@pytest.mark.parametrize("seed", range(3))
def test_as_published_the_parts_are_halved_and_a_validation_split_selects(count: int, seed: int):
    groups = [""] * count
    parts = divide_as_published(groups, 0.5, seed=seed, shots=False, validation=True)
    assert not parts.selection and not parts.shared
    assert parts.weights | parts.architecture == set(range(count))
    assert abs(len(parts.weights) - len(parts.architecture)) <= 1
    assert not parts.weights & parts.architecture


@pytest.mark.parametrize("count", [10, 51, 200])
def test_without_a_validation_split_a_fifth_selects_and_the_rest_is_halved(count: int):
    parts = divide_as_published([""] * count, 0.5, seed=0, shots=False, validation=False)
    three = (parts.weights, parts.architecture, parts.selection)
    assert sum(map(len, three)) == len(frozenset().union(*three)) == count
    assert len(parts.selection) == round(SELECTION_SHARE * count)
    assert abs(len(parts.weights) - len(parts.architecture)) <= 1


@pytest.mark.parametrize("validation", [True, False])
@pytest.mark.parametrize("count", [5, 10, 50])
def test_few_shots_are_halved_and_no_other_part_selects(count: int, validation: bool):
    parts = divide_as_published([""] * count, 0.5, seed=0, shots=True, validation=validation)
    assert parts.weights | parts.architecture == set(range(count))
    assert abs(len(parts.weights) - len(parts.architecture)) <= 1
    assert parts.selection == parts.architecture
    assert "the search selects on" in parts.shared


def test_of_files_of_one_size_only_those_with_equal_samples_are_hashed(tmp_path):
    # A sensor without compression writes files of one size: hashing all takes most of a check.
    rng = np.random.default_rng(0)
    for number in range(6):
        write_bytes = (tmp_path / f"{number}.tiff").write_bytes
        write_bytes(rng.integers(0, 255, 50_000, np.uint8).tobytes())
    (tmp_path / "5.tiff").write_bytes((tmp_path / "0.tiff").read_bytes())
    refs = [SampleRef(source=str(n), files={"xyz": tmp_path / f"{n}.tiff"}) for n in range(6)]
    hashed = []

    def hashes(paths):
        hashed.extend(paths)
        return (content_hash([path]) for path in paths)

    found = shared_files({"training": refs[:3], "test": refs[3:]}, hashes)
    names = [str((tmp_path / f"{n}.tiff").resolve()) for n in (0, 5)]
    assert found == [("training", names[0], "test", names[1])]
    assert hashed == names

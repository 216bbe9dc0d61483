"""Simulated discharges: the physics of each class, exact files, sessions, no shortcut by size."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from chiasm.diagnosis.simulator.image import Look, draw_prpd, prpd_histogram
from chiasm.diagnosis.simulator.physics import Pulses
from chiasm.diagnosis.simulator.sessions import (
    CLASSES,
    EQUIPMENT,
    NOISES,
    TIERS,
    draw_latents,
    noise_pulses,
    plan_session,
)
from chiasm.diagnosis.simulator.simulator import (
    MARKER,
    discharge_pulses,
    make_recordings,
    simulate_recording,
)
from chiasm.errors import ChiasmError, ConfigurationError, DataError

PD_CLASSES = CLASSES[1:]
DEFECTS = 12
# Three standard errors of an AUROC with 40 recordings against 120 are 0.15.
LEAK_SESSIONS, LEAK_LIMIT = 160, 0.85


def _pulses(kind: str) -> list[Pulses]:
    """Draw recordings of ``DEFECTS`` unlike defects, well above inception."""
    return [
        discharge_pulses(kind, 1.2 + 0.05 * n, *map(np.random.default_rng, ([n, 1], [n, 2])))
        for n in range(DEFECTS)
    ]


def _near(pulses: Pulses, peak: float) -> NDArray[np.float64]:
    return np.abs((pulses.phase - peak + 180.0) % 360 - 180)


def _second_harmonic(pulses: Pulses) -> complex:
    return complex(np.exp(2j * np.radians(pulses.phase)).mean())


def _asymmetry(pulses: Pulses) -> float:
    """Absolute logarithm of the ratio of mean charges, half-cycle after rise against the other."""
    positive = (pulses.phase + 45) % 360 < 180
    return float(abs(np.log(pulses.charge[positive].mean() / pulses.charge[~positive].mean())))


def test_corona_stays_between_the_inception_angles_of_one_peak() -> None:
    for n, pulses in enumerate(_pulses("corona")):
        widest = np.degrees(np.arccos(1 / (1.05 * (1.2 + 0.05 * n))))
        inside = [(_near(pulses, peak) <= widest).mean() for peak in (90, 270)]
        assert max(inside) > 0.9
        main = pulses.charge[_near(pulses, (90, 270)[int(np.argmax(inside))]) <= widest]
        assert main.std() / main.mean() < 0.2


def test_corona_prefers_the_negative_peak_but_not_always() -> None:
    negative = [
        (_near(discharge_pulses("corona", 1.3, *map(np.random.default_rng, (n, n))), 270) < 90)
        for n in range(60)
    ]
    assert 0.55 < np.mean([share.mean() > 0.5 for share in negative]) < 0.95


def test_a_void_discharges_alike_on_both_rising_flanks() -> None:
    for pulses in _pulses("void"):
        axis = np.degrees(np.angle(_second_harmonic(pulses))) / 2
        # The mean phase lies between the zero crossing and the peak, in both half-cycles.
        assert 0 < axis < 90
        assert abs(np.exp(1j * np.radians(pulses.phase)).mean()) < 0.1
        assert _asymmetry(pulses) < 0.25


def test_discharges_in_a_gap_start_before_the_zero_crossing() -> None:
    # Only the field of charge left behind can do that.
    early = [((pulses.phase % 180) > 150).mean() for pulses in _pulses("void")]
    assert max(early) > 0.05


def test_a_surface_is_wider_and_less_symmetric_than_a_void() -> None:
    surface, void = _pulses("surface"), _pulses("void")
    assert min(map(_asymmetry, surface)) > max(map(_asymmetry, void))
    length = [np.mean([abs(_second_harmonic(p)) for p in group]) for group in (surface, void)]
    assert length[0] < length[1]
    spread = [
        np.median([p.charge.std() / p.charge.mean() for p in group]) for group in (surface, void)
    ]
    assert spread[0] > spread[1]


@pytest.mark.parametrize("variety", NOISES)
def test_noise_has_no_fixed_place_in_the_phase(variety: str) -> None:
    drawn = [
        noise_pulses(*map(np.random.default_rng, ([n, 3], [n, 4])), variety) for n in range(30)
    ]
    if variety == "locked":
        assert min(np.unique(p.phase // 10).size for p in drawn) < 10
    else:
        assert np.median([abs(_second_harmonic(p)) for p in drawn]) < 0.2
    assert abs(np.mean([_second_harmonic(p) for p in drawn])) < 0.4


@pytest.mark.parametrize("tier", TIERS)
def test_a_normal_recording_is_floor_and_a_few_strays(tier: str) -> None:
    latents = draw_latents("normal", np.random.default_rng(0), tier=tier)
    counts, pulses = simulate_recording("normal", latents=latents, rng=np.random.default_rng(1))
    assert counts.shape == (1200, 128)
    assert counts.dtype == np.uint8
    assert pulses.cycle.size <= 0.03 * 1200
    beyond = counts > latents.pedestal + 5.5 * latents.sigma + 1
    assert beyond.sum() <= pulses.cycle.size


def test_the_recorder_holds_the_peaks_of_pulses_over_the_floor() -> None:
    latents = draw_latents("void", np.random.default_rng(2))
    counts, pulses = simulate_recording("void", latents=latents, rng=np.random.default_rng(3))
    held = counts[pulses.cycle, np.minimum(pulses.phase * 128 / 360, 127).astype(int)]
    assert (held >= np.minimum(np.floor(latents.pedestal + pulses.charge), 255)).all()


def test_the_hard_tier_is_nearer_inception_and_noisier() -> None:
    easy, hard = (
        [draw_latents("void", np.random.default_rng(n), tier=tier) for n in range(40)]
        for tier in TIERS
    )
    assert max(one.overvoltage for one in hard) <= 1.25
    assert min(one.sigma for one in hard) >= max(one.sigma for one in easy)
    assert len({one.look for one in easy}) == 1 < len({one.look for one in hard})
    assert any(one.secondary for one in hard)


def test_the_picture_is_the_logarithmic_histogram() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 256, (1200, 128)).astype(np.uint8)
    cells = prpd_histogram(counts)
    by_hand, *_ = np.histogram2d(
        counts.reshape(-1),
        np.tile(np.arange(128), 1200),
        bins=(np.arange(0, 258, 2), np.arange(129)),
    )
    assert np.array_equal(cells, by_hand[::-1])
    empty = draw_prpd(np.zeros((1200, 128), np.uint8), Look(sine=False, grid=False))
    assert (empty[:-2] == 255).all()
    assert (empty[-2:] != 255).any(axis=2).all()


@pytest.mark.parametrize("tier", TIERS)
def test_neither_level_nor_size_of_file_tells_the_class(tier: str) -> None:
    kinds, scores = [], []
    for number in range(LEAK_SESSIONS):
        session = plan_session(number, LEAK_SESSIONS, tier=tier, seed=5, classes=PD_CLASSES)
        rng = np.random.default_rng([number, 1])
        counts, _ = simulate_recording(session.kind, latents=session.latents, rng=rng)
        picture = draw_prpd(counts, session.latents.look)
        size = cv2.imencode(".png", picture)[1].size
        scores.append((counts.mean(), counts.max(), size))
        kinds.append(session.kind)
    for kind in PD_CLASSES:
        for score in np.transpose(scores):
            area = roc_auc_score(np.array(kinds) == kind, score)
            assert max(area, 1 - area) < LEAK_LIMIT


def _made(folder: Path, **options: object) -> dict[str, bytes]:
    make_recordings(folder, **{"count": 20, "sessions": 10, "workers": 1, **options})  # type: ignore[arg-type]
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.name != MARKER
    }


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("discharges")
    return folder, _made(folder)


def _notes(files: dict[str, bytes]) -> dict[str, dict]:
    labels = {name: text for name, text in files.items() if name.endswith(".json")}
    return {Path(name).stem: json.loads(text.decode("utf-8-sig")) for name, text in labels.items()}


def test_equal_seeds_give_equal_files_whatever_the_workers(
    recordings: tuple[Path, dict[str, bytes]], tmp_path: Path
) -> None:
    assert _made(tmp_path / "two", workers=2) == recordings[1]
    assert _made(tmp_path / "other", seed=1).keys() != recordings[1].keys()


def test_files_are_as_the_real_ones(recordings: tuple[Path, dict[str, bytes]]) -> None:
    folder, files = recordings
    notes = _notes(files)
    assert len(notes) == 20
    assert len(files) == 60
    for stem, note in notes.items():
        kind, insulator, equipment, day, clock, sensor, clearance = stem.split("_")
        name = f"{kind}_{insulator}_{equipment}"
        assert files[f"VL_{name}/{stem}.json"].startswith(b"\xef\xbb\xbf")
        lines = files[f"VS_{name}/{stem}.csv"].decode("ascii").splitlines()
        rows = np.array([line.split(",") for line in lines]).astype(int)
        assert rows.shape == (20, 7680)
        assert 0 <= rows.min() <= rows.max() <= 255
        image = cv2.imread(str(folder / f"VS_{name}/{stem}.png"), cv2.IMREAD_UNCHANGED)
        assert image is not None
        assert image.shape == (256, 256, 3)
        assert image.dtype == np.uint8
        assert note["label"] == {
            "PD_type": CLASSES.index(kind),
            "image_path": f"{stem}.png",
            "timeseries_path": f"{stem}.csv",
        }
        around = note["metadata"]["environment"]
        assert around["recording_time"] == f"{day}_{clock}"
        assert around["sensor_type"] == sensor
        assert around["clearance_distance"] == f"['{clearance}mm']"
        assert note["metadata"]["equipment_information"]["equipment_name"] == equipment
        top = note["metadata"]["discharge_evaluation_factors"]["max_discharge_value"]
        assert top == rows.max()


def test_a_session_is_one_piece_of_equipment_on_one_day(
    recordings: tuple[Path, dict[str, bytes]],
) -> None:
    groups: dict[tuple[str, str], list[int]] = {}
    for note in _notes(recordings[1]).values():
        unit = note["metadata"]["equipment_information"]["equipment_id"]
        day = note["metadata"]["environment"]["recording_time"].split("_")[0]
        groups.setdefault((unit, day), []).append(note["label"]["PD_type"])
    assert len(groups) == 10
    assert all(len(labels) == 2 and len(set(labels)) == 1 for labels in groups.values())
    assert sorted(labels[0] for labels in groups.values()) == sorted(2 * list(range(5)))


def test_every_class_meets_every_kind_of_equipment() -> None:
    count = len(CLASSES) * len(EQUIPMENT)
    plan = [plan_session(n, count, tier="easy", seed=0) for n in range(count)]
    assert len({(one.kind, one.latents.equipment.name) for one in plan}) == count
    assert len(EQUIPMENT) >= 6


@pytest.mark.parametrize("pairing", ["exact", "jittered", "mismatched"])
def test_the_picture_is_paired_as_asked(pairing: str, tmp_path: Path) -> None:
    files = _made(tmp_path, count=8, sessions=4, classes=("corona", "void"), pairing=pairing)
    same, overlap = [], []
    for name in files:
        if name.endswith(".csv"):
            counts = np.loadtxt(tmp_path / name, delimiter=",", dtype=np.uint8).reshape(1200, 128)
            drawn = draw_prpd(counts).astype(int)
            shown = cv2.imread(str((tmp_path / name).with_suffix(".png")))[..., ::-1]
            same.append(np.array_equal(drawn, shown))
            overlap.append((np.abs(drawn - shown).max(axis=2) > 0).mean())
    assert all(same) if pairing == "exact" else not any(same)
    # Another stretch of the same session differs in single dots, another class in whole patches.
    if pairing != "exact":
        assert (np.mean(overlap) < 0.15) == (pairing == "jittered")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tier": "medium"}, "medium"),
        ({"pairing": "loose"}, "loose"),
        ({"classes": ("void", "arc")}, "arc"),
        ({"classes": ("void", "void")}, "twice"),
        ({"classes": ("void",), "pairing": "mismatched"}, "two classes"),
        ({"sessions": 3}, "sessions=3"),
        ({"count": 5}, "count=5"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_wrong_settings_are_said_in_a_sentence(
    options: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=message) as raised:
        _made(tmp_path, **options)
    assert isinstance(raised.value, ChiasmError)
    assert str(raised.value).endswith(".")
    assert not list(tmp_path.iterdir())


def test_recordings_are_never_mixed_into_others(recordings: tuple[Path, dict[str, bytes]]) -> None:
    with pytest.raises(DataError, match="already holds recordings"):
        _made(recordings[0], seed=3)

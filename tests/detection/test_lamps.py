"""A run remembers the lamp that it saw its parts under, and says where data differ."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

import chiasm
from chiasm.detection.config import DetectionConfig
from chiasm.detection.contract import acquisition_of, read_contract
from chiasm.detection.evaluate import evaluate
from chiasm.detection.predict import predict
from chiasm.detection.preparation.acquisition import Acquisition
from chiasm.detection.readers.manifest import Manifest
from chiasm.detection.readers.opening import lamp_read, open_as_trained
from chiasm.detection.train import train
from chiasm.errors import DataError
from chiasm.files.images import write_rgb

SIDE = 48
LAMPS = (0, 4)
DARK = {0: 0.9, 4: 0.5}  # brightness of the parts under each lamp


def write_part(data: Path, stem: str, *, lamps=LAMPS, defective=False) -> None:
    """Write a grey part with a bright square, darker under lamp 4; a defect is a black spot."""
    data.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(f"{data}/{stem}".encode()))
    for lamp in lamps:
        image = np.full((SIDE, SIDE, 3), DARK[lamp]) + rng.normal(0, 0.02, (SIDE, SIDE, 3))
        image[20:28, 20:28] += 0.05
        if defective:
            image[30:36, 10:16] = 0
        cv2.imwrite(str(data / f"{stem}_image_{lamp}.png"), np.clip(image * 255, 0, 255))
    depth = 30000 + rng.integers(0, 50, (SIDE, SIDE))
    cv2.imwrite(str(data / f"{stem}_depth.png"), depth.astype(np.uint16))
    (data / f"{stem}_info_depth.yaml").write_text("normalization: {min: 0.5, max: 0.7}\n")
    mask = np.zeros((SIDE, SIDE), np.uint8)
    if defective:
        mask[30:36, 10:16] = 255
    cv2.imwrite(str(data / f"{stem}_mask.png"), mask)
    (data / f"{stem}_metadata.yaml").write_text(
        f"anomalous: {int(defective)}\nanomalous_dents: {int(defective)}\n"
    )


@pytest.fixture(scope="module")
def candy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Most parts have a picture under lamp 0, so that a reader chooses that by itself."""
    root = tmp_path_factory.mktemp("candy")
    for folder, count in (("train", 8), ("val", 6)):
        for number in range(count):
            write_part(root / folder / "data", f"{number:03d}")
    write_part(root / "val" / "data", "099", lamps=(0,))
    for number in range(4):
        write_part(root / "test_public" / "data", f"{number:03d}", defective=number > 1)
    return root


@pytest.fixture(scope="module")
def run(candy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "lamp_4"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHIASM_CACHE", str(out / "cache"))
        config = DetectionConfig.make(
            data=candy,
            out=out,
            model="pixel_gaussian",
            modalities="rgb",
            image_size=64,
            lamp=4,
            remove_background=False,
            rotate=False,
            false_alarm_rate=0.25,
        )
        train(config)
    return out


def lamps_of(verdicts) -> set[str]:
    return {Path(verdict.source).stem[-1] for verdict in verdicts}


def test_the_contract_holds_the_lamp(run: Path):
    acquisition = chiasm.load(run).acquisition
    assert (acquisition.lamp, acquisition.lamps) == (4, (4,))
    assert acquisition.frames == ((SIDE, SIDE),)
    assert read_contract(run / "model").acquisition == acquisition  # through JSON


def test_evaluation_and_prediction_take_the_lamp_of_the_training(
    run: Path, candy: Path, tmp_path: Path, capsys
):
    metrics = evaluate(run, data=candy, out=tmp_path / "report")
    assert metrics["image"]["auroc"]["value"] == 1.0
    verdicts = predict(run, candy, out=tmp_path / "verdicts")
    assert lamps_of(v for v in verdicts if not v.error) == {"4"}
    assert "lamp" not in capsys.readouterr().out
    good = [v for v in verdicts if v.source.endswith(("train", "val")) and v.defective]
    assert not good


def test_another_lamp_is_taken_where_it_is_given_and_is_said(
    run: Path, candy: Path, tmp_path: Path, capsys
):
    verdicts = predict(run, candy, lamp=0, out=tmp_path / "verdicts")
    assert lamps_of(verdicts) == {"0"}
    evaluate(run, data=candy, lamp=0, out=tmp_path / "report")
    sentence = "read under lamp 0, under which the model saw no part: it was trained under lamp 4"
    assert " ".join(capsys.readouterr().out.split()).count(sentence) == 2
    page = (tmp_path / "report/report.html").read_text()
    assert sentence in page and "--lamp 0" in page


def test_data_without_the_lamp_of_the_training_are_refused(run: Path, tmp_path: Path):
    write_part(tmp_path / "other/test_public/data", "000", lamps=(0,))
    with pytest.raises(DataError, match=r"trained under lamp 4, and .* lamp 0 alone.*--lamp 0"):
        evaluate(run, data=tmp_path / "other", out=tmp_path / "report")


def test_data_that_name_no_lamp_are_taken_and_it_is_said(run: Path, tmp_path: Path, capsys):
    write_rgb(tmp_path / "new/rgb/1.png", np.full((SIDE, SIDE, 3), 0.5, np.float32))
    predict(run, tmp_path / "new", out=tmp_path / "out")
    predict(run, tmp_path / "new/rgb/1.png", out=tmp_path / "out")
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("trained under lamp 4, and these parts name no lamp") == 2


def test_an_earlier_model_takes_the_lamp_of_its_settings(run: Path, tmp_path: Path):
    contract = read_contract(run / "model").model_copy(update={"acquisition": None})
    assert acquisition_of(run, contract) == Acquisition(lamp=4, lamps=(4,))
    assert acquisition_of(run / "model", contract) == Acquisition(lamp=4, lamps=(4,))
    assert acquisition_of(tmp_path, contract) is None


def table(folder: Path, lamps: list[int | str], name: str = "parts") -> Path:
    rows = ["rgb,lamp,split,label"]
    for number, lamp in enumerate(lamps):
        write_rgb(folder / f"{number}.png", np.zeros((20, 20, 3), np.float32))
        rows.append(f"{number}.png,{lamp},test,0")
    path = folder / f"{name}.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.mark.parametrize(
    ("trained", "lamps", "read", "words"),
    [
        (Acquisition(lamp=1, lamps=(1,)), [1, 1, 2], {1}, ""),
        (Acquisition(lamp=1, lamps=(1,)), ["", ""], {None}, "name no lamp"),
        (Acquisition(lamp="all", lamps=(1, 2)), [1, 2], {1, 2}, ""),
        (Acquisition(lamp="all", lamps=(1, 2)), [1, 3], {1, 3}, "under lamp 3, under which"),
        (Acquisition(), [1, 1], {1}, "training's data named no lamp"),
        (Acquisition(), ["", ""], {None}, ""),
        (None, [1, 1], {1}, ""),
        (None, [1, 2], {1, 2}, "saved without the lamp"),
    ],
)
def test_a_table_is_read_under_the_lamp_of_the_training(tmp_path, trained, lamps, read, words):
    source, remarks = open_as_trained(table(tmp_path, lamps), trained)
    assert {ref.lamp for ref in source.refs} == read
    assert len(remarks) == bool(words) and words in "".join(remarks)


def test_the_lamp_that_was_read_is_told_by_the_parts(tmp_path: Path):
    one, several = table(tmp_path, [2, 2]), table(tmp_path, [1, 2], "several")
    assert lamp_read(Manifest(one).refs, None) == 2
    assert lamp_read(Manifest(several).refs, None) == "all"
    assert lamp_read(Manifest(several, lamp=1).refs, 1) == 1
    assert Manifest(several, lamp=1).lamps == (1, 2)
    assert lamp_read((), "all") is None


def test_the_contract_is_whole_json(run: Path):
    content = json.loads((run / "model/contract.json").read_text())
    assert content["acquisition"]["lamp"] == 4
    assert content["acquisition"]["coverage"]["median"] == 1.0

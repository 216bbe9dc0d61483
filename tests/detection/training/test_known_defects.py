"""Known defects that train the head are shown as they are, and are in no memory and no choice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from chiasm.detection.anomalies.generators import training_generator
from chiasm.detection.config import DetectionConfig
from chiasm.detection.datamodule import DetectionDataModule
from chiasm.detection.preparation.prepare import PreparationSettings, prepare
from chiasm.detection.readers.cache import PreparationCache, with_defects
from chiasm.detection.scenes.maker import render_scene
from chiasm.detection.training.known_defects import defects_for_head
from chiasm.detection.training.synthetic import SyntheticParts
from chiasm.errors import ConfigurationError

SETTINGS = PreparationSettings(size=64, told_by="points")


@pytest.fixture(scope="module")
def parts():
    return [prepare(render_scene("flange", "good", seed, 96), SETTINGS) for seed in range(4)]


@pytest.fixture(scope="module")
def defect():
    part = prepare(render_scene("flange", "hole", 9, 96), SETTINGS)
    assert part.label == 1 and part.mask.any()
    return part


def test_a_known_defect_is_shown_as_it_is(parts, defect):
    shown = SyntheticParts(
        [*parts, defect],
        numbers=range(5),
        generator=training_generator(),
        seed=0,
        owners=[0, 1, 2, 3, -1],
    )
    for epoch in range(3):
        drawn = shown.draw(epoch, 4)
        assert drawn.part is defect
        assert drawn.owner == -1
        alone = SyntheticParts(parts, numbers=range(4), generator=training_generator(), seed=0)
        for position in range(4):  # and changes no draw of the others
            one, other = shown.at(epoch, position)[0], alone.at(epoch, position)[0]
            assert np.array_equal(one.rgb, other.rgb)


def test_known_defects_train_weights_alone(parts, defect, tmp_path: Path):
    data = object.__new__(DetectionDataModule)
    data.config = DetectionConfig.make(data=tmp_path, out=tmp_path)
    data.parts, data.defects, data.calibration = parts, [defect], parts
    data.training, data.held_out = [0, 1, 2], [3]
    data.weights, data.architecture = [0, 1], [2]
    data.owners, data.selected_on_calibration = [0, 1, 2, 3], False
    data.frozen_source = None
    for purpose, count in {"final": 4, "train": 4, "weights": 3}.items():
        dataset = data.synthetic(purpose)
        assert len(dataset) == count
        assert dataset[count - 1].part is defect
        assert list(dataset.owners)[-1] == -1
    for purpose in ("architecture", "validate"):
        dataset = data.synthetic(purpose)
        assert all(dataset.parts[i].label != 1 for i in range(len(dataset.parts)))


def test_parts_without_defects_are_the_same_sequence(parts, defect):
    assert with_defects(parts, ()) is parts
    joined = with_defects(parts, [defect])
    assert len(joined) == 5
    assert joined[-1] is joined[4] is defect
    assert joined[3:] == [parts[3], defect]


def test_a_model_without_a_head_on_frozen_features_refuses_them(tmp_path: Path):
    config = DetectionConfig.make(
        data=tmp_path, out=tmp_path, defects=tmp_path, defects_trained=0.5
    )
    for changed, frozen in ((config, False), (replace_objects(config), True)):
        with pytest.raises(ConfigurationError, match="choose the threshold alone"):
            defects_for_head(changed, PreparationCache(tmp_path), SETTINGS, frozen=frozen)
    none = config.model_copy(update={"defects_trained": 0.0})
    assert defects_for_head(none, PreparationCache(tmp_path), SETTINGS, frozen=True) == ()


def replace_objects(config: DetectionConfig) -> DetectionConfig:
    return config.model_copy(update={"objects": "split"})


def test_a_share_without_defects_is_refused(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="needs known defects"):
        DetectionConfig.make(data=tmp_path, out=tmp_path, defects_trained=0.5)
    with pytest.raises(ConfigurationError, match="needs known defects"):
        DetectionConfig.make(data=tmp_path, out=tmp_path, miss_rate=0.1)

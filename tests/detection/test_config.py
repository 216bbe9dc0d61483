"""Settings under earlier names mean the same, and a run that was saved with them is continued."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from chiasm.detection.building import builder_arguments, pools_of
from chiasm.detection.config import DetectionConfig
from chiasm.detection.opening import CHANGEABLE
from chiasm.errors import ConfigurationError
from chiasm.runs.run_folder import open_run_folder

VERSION_1 = Path(__file__).parents[1] / "version_1" / "light" / "config.yaml"

EARLIER = [
    ("light", 3, lambda c: c.lamp),
    ("any_angle", True, lambda c: c.rotate),
    ("capacity", 700, lambda c: c.memory_entries),
    ("search_epochs", 3, lambda c: c.search.epochs),
    ("order", 2, lambda c: c.search.order),
    ("architecture_rate", 0.5, lambda c: c.search.rate),
    ("finalists", 3, lambda c: c.search.finalists),
    ("final_epochs", 5, lambda c: c.search.final_epochs),
    ("final_steps", 7, lambda c: c.search.final_steps),
]


@pytest.mark.parametrize(("name", "value", "read"), EARLIER)
def test_an_earlier_name_is_read_in_every_way(tmp_path: Path, name, value, read):
    base = {"data": tmp_path, "out": tmp_path}
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump({name: value}))
    for config in (
        DetectionConfig.make(**base, **{name: value}),
        DetectionConfig.make(**base, overrides=[f"{name}={yaml.safe_dump(value)}"]),
        DetectionConfig.make(**base, file=file),
    ):
        assert read(config) == value
    assert {earlier for earlier, _, _ in EARLIER} == set(DetectionConfig.RENAMED)


def test_a_run_of_version_1_is_continued_with_the_same_settings_only(tmp_path: Path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.yaml").write_text(VERSION_1.read_text())
    config = DetectionConfig.make(file=VERSION_1)

    def open_with(**changes: object) -> None:
        changed = config.model_copy(update=changes)
        open_run_folder(changed, tmp_path, free=CHANGEABLE)

    finalists = config.search.model_copy(update={"finalists": 2})
    with pytest.raises(ConfigurationError, match=r"\(search\.finalists\)"):
        open_with(search=finalists)
    with pytest.raises(ConfigurationError, match=r"\(memory_entries\)"):
        open_with(memory_entries=9_000)
    open_with(search=config.search.model_copy(update={"epochs": 99}), train_epochs=99)
    saved = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert saved["search"]["epochs"] == 99
    assert not set(saved) & set(DetectionConfig.RENAMED)


def test_scales_of_the_middle_are_a_setting_of_models_that_train_their_features(tmp_path: Path):
    def config(model: str, scales: str) -> DetectionConfig:
        overrides = [f"model={model}", f"middle_scales={scales}"]
        return DetectionConfig.make(overrides=overrides, data=tmp_path, out=tmp_path)

    for scales, expected in (("2,3", False), ("2,3,4", True), ("2", False)):
        pools = pools_of(config("adnas_slim", scales))
        assert any(c.name == "rgb/E4" for c in pools.middle) == expected
    assert builder_arguments(config("adnas_paper", "2,3,4"))["middle_scales"] == (2, 3, 4)
    with pytest.raises(ConfigurationError, match="leave out middle_scales"):
        pools_of(config("adnas_light", "2,3,4"))

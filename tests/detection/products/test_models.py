"""Each part is judged by the model of its own product, or refused; never by another in silence."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from chiasm.deploy.threshold import set_thresholds
from chiasm.detection.decision import AlarmRule
from chiasm.detection.predict import predict
from chiasm.detection.products.models import (
    CLEAR,
    Product,
    ProductModels,
    folder_of_product,
    level,
    measured,
    read_products,
    told_apart,
    write_products,
)
from chiasm.errors import ArtifactError, ConfigurationError, DataError
from chiasm.samples import AnomalyMap, RGBDSample, Verdict
from chiasm.service.model_pool import with_products


@dataclass
class OneProduct:
    """A model to which a part is as strange as its brightness differs from the usual one."""

    usual: float
    threshold: float = 0.5
    acquisition: None = None
    modalities: tuple[str, ...] = ("rgb",)
    model_hash: str = ""
    seen: list[str] = field(default_factory=list)

    @property
    def alarm_rule(self) -> AlarmRule:
        return AlarmRule([self.threshold] * 9, 0.1, None)

    def predict(self, sample: RGBDSample) -> Verdict:
        assert sample.rgb is not None
        self.seen.append(sample.source)
        scores = np.abs(sample.rgb[..., 0] - self.usual).astype(np.float32)
        where = np.ones(scores.shape, bool)
        top = float(scores.max())
        found = AnomalyMap(scores, where, top, sample.source)
        return Verdict(sample.source, top, 0.5, top > self.threshold, found)


def part(brightness: float, source: str = "part.png", *, defect: float = 0.0, product: str = ""):
    rgb = np.full((8, 8, 3), brightness, np.float32)
    rgb[:2, :2] += defect
    return RGBDSample(rgb, None, np.ones((8, 8), bool), source=source, product=product)


@pytest.fixture
def models() -> ProductModels:
    alone = {"dark": OneProduct(0.1), "light": OneProduct(0.8)}
    parts = {
        "dark": [part(0.1 + d) for d in (0.0, 0.02)],
        "light": [part(0.8 + d) for d in (0.0, 0.03)],
    }
    records = measured(alone, parts, [Product(name, name) for name in alone])
    return ProductModels(alone, records)


def test_levels_are_those_of_every_pair(models: ProductModels):
    dark = models.records["dark"]
    assert dark.own_level == pytest.approx(0.02)
    assert dark.other_levels == {"light": pytest.approx(0.7)}
    assert dark.clear(models.products)
    assert dark.own_level < dark.limit(models.products) < 0.7


def test_a_defect_leaves_the_level():
    assert level(OneProduct(0.1).predict(part(0.1, defect=0.5))) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("defect", [0.0, 0.6])
def test_a_part_that_nothing_names_is_told_by_its_looks_and_that_is_said(models, defect):
    verdict = models.predict(part(0.1, defect=defect))
    assert verdict.product == "dark" and verdict.defective == (defect > 0)
    assert "dark" in verdict.notes[0] and "likeness" in verdict.notes[0]


@pytest.mark.parametrize("brightness", [0.45, 5.0])
def test_a_part_like_none_is_refused_with_a_remedy(models, brightness):
    with pytest.raises(DataError, match=r"none of dark, light.*--product"):
        models.predict(part(brightness))
    (verdict,) = models.predict_all([part(brightness)])
    assert verdict.defective is None and "--product" in verdict.error


def test_products_that_look_alike_are_never_told(models: ProductModels):
    twin = ProductModels(
        {"one": OneProduct(0.1), "other": OneProduct(0.11)},
        measured(
            {"one": OneProduct(0.1), "other": OneProduct(0.11)},
            {"one": [part(0.12)], "other": [part(0.1)]},
            [Product("one", "one"), Product("other", "other")],
        ),
    )
    assert not any(record.clear(twin.products) for record in twin.records.values())
    assert "must be named" in told_apart(list(twin.records.values()))
    # A large defect may make it strange to its own model alone: that must not choose the other.
    for brightness in np.linspace(0, 0.3, 16):
        with pytest.raises(DataError, match="not clear"):
            twin.predict(part(float(brightness)))


def test_a_product_that_was_not_compared_is_never_told(models: ProductModels):
    records = [*models.records.values(), Product("new", "new")]
    known = ProductModels({**models.models, "new": OneProduct(0.1)}, records)
    with pytest.raises(DataError, match="dark and new"):
        known.predict(part(0.1))
    with pytest.raises(DataError):
        known.predict(part(0.8))  # "new" has no limit, so that it is excluded from nothing


def test_a_name_goes_before_a_folder_and_a_folder_before_looks(models: ProductModels):
    by_name = models.predict(part(0.1, "data/dark/1.png", product="light"))
    by_folder = models.predict(part(0.8, "line/dark/cam/1.png"))
    assert by_name.product == "light" and not any("folder" in n for n in by_name.notes)
    assert by_folder.product == "dark" and "folder" in by_folder.notes[0]
    assert by_folder.defective  # by the threshold and the normals of its own product
    assert models.rule_for(by_folder) is not None
    with pytest.raises(DataError, match=r"'blue'.*dark, light"):
        models.predict(part(0.1, product="blue"))


def test_a_part_that_names_its_product_costs_one_model(models: ProductModels):
    light = models.models["light"]
    before = len(light.seen)
    models.predict(part(0.1, product="dark"))
    assert len(light.seen) == before


def test_lamps_that_differ_are_refused(models: ProductModels):
    @dataclass
    class Seen:
        lamp: int

    models.models["light"].acquisition = Seen(3)  # type: ignore[assignment]
    with pytest.raises(ConfigurationError, match="--product"):
        _ = models.acquisition


def test_the_list_is_read_as_it_was_written(models: ProductModels, tmp_path: Path):
    assert read_products(tmp_path) == ()
    for name in models.products:
        (tmp_path / name).mkdir()
    records = tuple(models.records.values())
    write_products(tmp_path, records)
    assert read_products(tmp_path) == records
    assert folder_of_product(tmp_path, "dark") == tmp_path / "dark"
    assert with_products({"x": tmp_path, "y": tmp_path / "other"}) == {
        "dark": tmp_path / "dark",
        "light": tmp_path / "light",
        "y": tmp_path / "other",
    }
    with pytest.raises(ConfigurationError, match="'blue'; it has dark, light"):
        folder_of_product(tmp_path, "blue")
    with pytest.raises(ConfigurationError, match="one product"):
        folder_of_product(tmp_path / "dark", "dark")
    with pytest.raises(ConfigurationError, match="--product dark"):
        set_thresholds(tmp_path, defects=tmp_path)
    (tmp_path / "light").rmdir()
    with pytest.raises(ArtifactError, match="light"):
        read_products(tmp_path)


def test_a_level_of_zero_and_a_refusing_model_can_be_compared():
    class Refusing(OneProduct):
        def predict(self, sample: RGBDSample) -> Verdict:
            if sample.rgb[0, 0, 0] < 0.5:
                raise DataError("too near")
            return super().predict(sample)

    alone = {"dark": OneProduct(0.1), "light": Refusing(0.8)}
    records = measured(
        alone,
        {"dark": [part(0.1)], "light": [part(0.8)]},
        [Product("dark", "dark"), Product("light", "light")],
    )
    by_name = {record.name: record for record in records}
    assert by_name["light"].other_levels["dark"] >= 1e8
    assert by_name["dark"].clear(alone) and math.isfinite(by_name["dark"].limit(alone))
    models = ProductModels(alone, records)
    assert models.predict(part(0.1)).product == "dark"
    assert models.predict(part(0.8)).product == "light"


def test_tables_have_a_column_of_products_where_there_are_several(models, tmp_path, monkeypatch):
    import csv

    import cv2

    for name, grey in (("dark", 26), ("light", 204)):
        folder = tmp_path / "parts" / name / "test" / "good" / "rgb"
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder / "0.png"), np.full((16, 16, 3), grey, np.uint8))
    verdicts = predict(models, tmp_path / "parts", out=tmp_path / "out")
    assert [verdict.product for verdict in verdicts] == ["dark", "light"]
    with (tmp_path / "out" / "verdicts.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["product"] for row in rows] == ["dark", "light"]


def test_the_margin_is_of_ratios():
    record = Product("a", "a", own_level=1.0, other_levels={"b": CLEAR})
    assert record.clear(["a", "b"])
    assert not replace(record, other_levels={"b": 0.99 * CLEAR}).clear(["a", "b"])

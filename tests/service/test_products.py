"""A model of several products: each part is judged by its own product's model, or refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stub_service import TestClient, grey, plane, stub_deployment, tiff, wait_until

from chiasm.detection.products.models import Product, write_products
from chiasm.errors import ArtifactError, DataError
from chiasm.samples import AnomalyMap, Verdict
from chiasm.service.app import build
from chiasm.service.model_pool import ModelPool
from chiasm.service.settings import ServiceSettings

NORMALS = tuple(0.001 * n for n in range(1, 20))
USUAL = {"dark": 0.2, "light": 0.8}


class Near:
    """A model to which a part is as strange as its brightness differs from the usual one."""

    wing = "detector"
    modalities = ("rgb", "geometry")

    def __init__(self, folder: Path) -> None:
        self.usual = json.loads((folder / "deployment.json").read_text())["usual"]
        self.model_hash = f"{round(100 * self.usual):064d}"
        self.deployment = stub_deployment(
            wing="detector",
            method="near",
            modalities=self.modalities,
            calibration_scores=NORMALS,
            false_alarm_rate=0.1,
        )

    def prepared(self, rgb: Any, xyz: Any, *, source: str = "") -> Callable[[], Verdict]:
        if min(rgb.shape[:2]) < 8:
            raise DataError("The image is smaller than 8 x 8 pixels.")
        return partial(self._verdict, rgb, source)

    def _verdict(self, rgb: Any, source: str) -> Verdict:
        scores = np.abs(rgb[..., 0] - self.usual).astype(np.float32)
        score = float(scores.max())
        found = AnomalyMap(scores, np.ones(scores.shape, bool), score, source)
        return Verdict(source, score, 0.5, score > 0.05, found)

    def warm_up(self, *, streaming: bool = False) -> None: ...

    def close(self) -> None: ...


def write(folder: Path, **levels: float) -> None:
    """Write a model of two products, which are told where their levels differ clearly."""
    folder.mkdir(exist_ok=True)
    own, other = levels.get("own", 0.02), levels.get("other", 0.6)
    for name, usual in USUAL.items():
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "deployment.json").write_text(json.dumps({"usual": usual}))
    write_products(
        folder,
        [
            Product("dark", "dark", own, {"light": other}),
            Product("light", "light", own, {"dark": other}),
        ],
    )


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    write(tmp_path / "line")
    settings = ServiceSettings(log=tmp_path / "log.sqlite", watch=0.02)
    app = build({"line": tmp_path / "line"}, settings, Near)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def post(client: TestClient, tmp_path: Path) -> Callable[..., Any]:
    points = tiff(plane(), tmp_path / "xyz.tiff")

    def begin(name: str, brightness: float, **fields: str) -> Any:
        files = {"rgb": ("a.png", grey(brightness)), "xyz": ("a.tiff", points)}
        return client.post(f"/v1/models/{name}/predict", files=files, data=fields)

    return begin


def test_a_product_is_named_by_the_address_or_a_field_or_told(client: TestClient, post):
    for answer in (
        post("dark", 0.2),
        post("line", 0.2, product="dark"),
        post("line", 0.2),
        post("dark", 0.2, product="dark"),
    ):
        said = answer.json()
        assert (said["model"], said["defective"]) == ("dark", False), said
        assert said["model_hash"] == f"{20:064d}"
    assert post("line", 0.2).json()["notes"] == [
        "Product dark, told by its likeness to normal parts."
    ]
    assert post("line", 0.2, product="light").json()["defective"]  # a name goes before the looks
    assert post("line", 0.8).json()["model"] == "light"
    rows = client.get("/v1/verdicts").json()["verdicts"]
    assert {row["model"] for row in rows} == {"dark", "light"}


def test_what_is_not_clear_is_refused_with_a_remedy_that_works(client: TestClient, post):
    refused = post("line", 0.5)
    assert refused.status_code == 422
    message = refused.json()["error"]["message"]
    assert "not clear" in message and "field product" in message
    assert post("line", 0.5, product="dark").status_code == 200
    assert post("light", 0.5).status_code == 200
    (row,) = client.get("/v1/verdicts", params={"model": "line"}).json()["verdicts"]
    assert "not clear" in row["error"]


@pytest.mark.parametrize(
    ("name", "product", "code"),
    [("line", "lid", "unknown_product"), ("dark", "light", "other_product")],
)
def test_another_product_is_refused(post, name: str, product: str, code: str):
    refused = post(name, 0.2, product=product)
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, code)


def test_a_part_that_no_model_takes_is_refused_for_its_own_reason(client, tmp_path: Path):
    small = tiff(plane(4), tmp_path / "small.tiff")
    files = {"rgb": ("a.png", grey(0.2, size=4)), "xyz": ("a.tiff", small)}
    refused = client.post("/v1/models/line/predict", files=files).json()["error"]["message"]
    assert refused == "The image is smaller than 8 x 8 pixels."


def test_all_are_listed_and_each_has_its_own_threshold(client: TestClient):
    listed = {model["name"]: model for model in client.get("/v1/models").json()}
    assert list(listed) == ["line", "dark", "light"]
    assert listed["line"]["products"] == ["dark", "light"] and listed["dark"]["products"] == []
    assert listed["line"]["threshold"] is None and listed["dark"]["threshold"] is not None
    assert client.get("/v1/models/line").json() == listed["line"]
    for path in ("drift", "threshold"):
        refused = client.get(f"/v1/models/line/{path}")
        assert refused.json()["error"]["code"] == "several_products"


def test_what_tells_products_apart_is_read_again(tmp_path: Path, post):
    assert post("line", 0.2).status_code == 200
    write(tmp_path / "line", own=0.3, other=0.31)  # alike now
    wait_until(lambda: post("line", 0.2).status_code == 422)


def test_another_list_of_products_needs_a_start(tmp_path: Path):
    write(tmp_path / "line")
    pool = ModelPool({"line": tmp_path / "line"}, Near)
    (line,) = pool.products
    write_products(tmp_path / "line", [Product("dark", "dark")])
    with pytest.raises(ArtifactError, match="start the service again"):
        line.reload()
    assert not line.changed() and line.of_product("light") is pool["light"]
    pool.close()


def test_a_folder_of_the_name_of_a_product_is_that_product(tmp_path: Path):
    write(tmp_path / "dark")
    pool = ModelPool({"dark": tmp_path / "dark"}, Near)
    assert [model.name for model in pool] == ["dark", "light"] and not pool.products
    pool.close()

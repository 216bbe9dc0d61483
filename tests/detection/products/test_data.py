"""Products are found in folders beside each other and in a table's column; rows of several join."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from chiasm.api import make_config
from chiasm.detection.products.data import OfProduct, find_products, open_for, product_folders
from chiasm.detection.products.shared_data import JoinedRows
from chiasm.detection.products.training import check_products, config_of_product, products_of
from chiasm.detection.readers.opening import open_source
from chiasm.errors import ConfigurationError, DataError
from chiasm.files.rows import RowFile
from chiasm.runs.crew import ALONE


def category(folder: Path, count: int = 2) -> Path:
    place = folder / "train" / "good" / "rgb"
    place.mkdir(parents=True)
    for number in range(count):
        cv2.imwrite(str(place / f"{number}.png"), np.full((40, 40, 3), 10 + number, np.uint8))
    return folder


def table(folder: Path) -> Path:
    category(folder / "parts", 4)
    lines = ["rgb,label,split,product"]
    lines += [f"parts/train/good/rgb/{i}.png,0,train,{'ab'[i % 2]}" for i in range(4)]
    path = folder / "parts.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_folders_beside_each_other_are_products_of_their_names(tmp_path: Path):
    for name in ("nut", "bolt"):
        category(tmp_path / name)
    (tmp_path / "notes").mkdir()
    found = find_products([tmp_path])
    assert [(p.name, p.data, p.rows) for p in found] == [
        ("bolt", tmp_path / "bolt", None),
        ("nut", tmp_path / "nut", None),
    ]
    assert find_products([tmp_path / "nut", tmp_path / "bolt"])[0].name == "nut"


def test_one_category_is_one_product(tmp_path: Path):
    category(tmp_path / "nut")
    assert product_folders(tmp_path) == {}
    assert [p.name for p in find_products([tmp_path / "nut"])] == ["nut"]


def test_a_column_names_the_products_of_a_table(tmp_path: Path):
    path = table(tmp_path)
    assert [(p.name, p.rows) for p in find_products([path])] == [("a", "a"), ("b", "b")]
    source = OfProduct(open_source(path), "b")
    assert [Path(ref.source).stem for ref in source.refs] == ["1", "3"]
    assert source.load(source.refs[0]).product == "b"
    with pytest.raises(DataError, match=r"'c'.*a, b"):
        OfProduct(open_source(path), "c")


def test_a_column_with_gaps_is_refused(tmp_path: Path):
    path = table(tmp_path)
    path.write_text(path.read_text().replace("3.png,0,train,b", "3.png,0,train,"))
    with pytest.raises(DataError, match="fill the column"):
        find_products([path])


def test_two_products_of_one_name_are_refused(tmp_path: Path):
    paths = [category(tmp_path / line / "nut") for line in ("left", "right")]
    with pytest.raises(ConfigurationError, match=r"'nut'.*rename"):
        find_products(paths)


def test_a_model_of_one_product_opens_no_folder_of_several(tmp_path: Path):
    class Alone:
        products = ()
        acquisition = None

    class Several(Alone):
        products = ("nut", "bolt")

    for name in ("nut", "bolt"):
        category(tmp_path / name)
    with pytest.raises(DataError, match="open one of them"):
        open_for(Alone(), tmp_path)
    source, _ = open_for(Several(), tmp_path)
    assert sorted({ref.extra["product"] for ref in source.refs}) == ["bolt", "nut"]
    assert source.load(source.refs[0]).product == "bolt"


def test_settings_of_a_product_are_those_of_the_run_in_a_folder_of_its_own(tmp_path: Path):
    for name in ("nut", "bolt"):
        category(tmp_path / name)
    paths = [str(tmp_path / name) for name in ("nut", "bolt")]
    config = make_config(data=paths, out=tmp_path / "run", minutes=4, shots=7)
    products = products_of(config)
    one = config_of_product(config, products[1], among=2)
    assert (one.data, one.out) == (tmp_path / "bolt", tmp_path / "run" / "products" / "bolt")
    assert (one.minutes, one.shots) == (2, 7)
    assert products_of(one) == ()
    together = make_config(data=table(tmp_path / "t"), out=tmp_path / "r", products="together")
    assert products_of(together) == ()
    with pytest.raises(ConfigurationError, match="products=together"):
        products_of(config.model_copy(update={"products": "together"}))


def test_what_learns_its_features_refuses_several_products_before_training(tmp_path: Path):
    for name in ("nut", "bolt"):
        category(tmp_path / name)
    config = make_config(
        data=tmp_path, out=tmp_path / "run", model="adnas_slim", modalities=("rgb",)
    )
    products = products_of(config)
    with pytest.raises(ConfigurationError, match=r"adnas_slim.*products apart.*product=NAME"):
        check_products(config, products, ALONE)
    memory = make_config(
        data=tmp_path, out=tmp_path / "run", model="pixel_gaussian", modalities=("rgb",)
    )
    check_products(memory, products, ALONE)
    with pytest.raises(ConfigurationError, match="chiasm threshold RUN --product"):
        check_products(memory.model_copy(update={"defects": tmp_path}), products, ALONE)


def test_rows_of_several_files_are_read_as_those_of_one(tmp_path: Path):
    rng = np.random.default_rng(0)
    values = [rng.normal(size=(n, 3, 2)).astype(np.float32) for n in (4, 5)]
    files = []
    for number, rows in enumerate(values):
        file = RowFile(tmp_path / f"{number}.bin")
        file.append({"x": rows.transpose(0, 2, 1), "y": rows[:, 0]})
        files.append(file)
    joined = JoinedRows([(files[0], None), (files[1], [4, 0, 2])])
    expected = np.concatenate([values[0], values[1][[4, 0, 2]]])
    order = [6, 0, 5, 3, 4]
    assert len(joined) == 7 and joined.names == ("x", "y")
    read = joined.read(order)
    np.testing.assert_array_equal(read["x"], expected[order].transpose(0, 2, 1))
    np.testing.assert_array_equal(joined.read(slice(1, 6), ["y"])["y"], expected[1:6, 0])
    # Networks round differently with the channels first or last.
    assert (
        np.argsort(read["x"].strides).tolist()
        == np.argsort(files[0].read([0])["x"].strides).tolist()
    )
    other = RowFile(tmp_path / "other.bin")
    other.append({"z": values[0]})
    with pytest.raises(DataError, match="same sensors"):
        JoinedRows([(files[0], None), (other, None)])

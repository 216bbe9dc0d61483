"""Data of several products: folders beside each other, or a column of a table that names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from chiasm.detection.readers.opening import open_as_trained, open_source
from chiasm.detection.readers.source import Lamp, SampleRef, SampleSource, remarks_of
from chiasm.errors import ConfigurationError, DataError
from chiasm.files.readers import find_reader
from chiasm.samples import Problem, RGBDSample

PRODUCT_COLUMNS = ("product", "category", "object")  # that name what a part is


def product_of(ref: SampleRef) -> str:
    """Return the product that a row of a table names, or ``""``."""
    return next((ref.extra[name] for name in PRODUCT_COLUMNS if ref.extra.get(name)), "")


@dataclass(frozen=True, slots=True)
class ProductData:
    """Where the parts of a product are.

    Attributes:
        name: of the product.
        data: folder or table.
        rows: product whose rows of a table are meant; None takes all that is there.
    """

    name: str
    data: Path
    rows: str | None = None


class OfProduct:
    """The parts of one product in a source of several.

    Args:
        source: whose rows name their products.
        product: one of them.

    Raises:
        DataError: no row names it.
    """

    loads_by_listing = False

    def __init__(self, source: SampleSource, product: str) -> None:
        self._source = source
        self.name = product
        self.lamps = source.lamps
        self.problems: tuple[Problem, ...] = source.problems
        self.remarks = remarks_of(source)
        self.refs = tuple(ref for ref in source.refs if product_of(ref) == product)
        if not self.refs:
            named = sorted({product_of(ref) for ref in source.refs} - {""})
            raise DataError(
                f"{source.name} names no part of the product {product!r}; it names "
                f"{', '.join(named) or 'none'}."
            )

    def load(self, ref: SampleRef) -> RGBDSample:
        """Read one sample; raises ``DataError`` naming the file and its fault."""
        return replace(self._source.load(ref), product=self.name)


class ProductFolders:
    """Folders of data beside each other, each of one product.

    Args:
        folders: by product.
        name: for reports.
        lamp: as for ``open_source``.
    """

    loads_by_listing = True

    def __init__(self, folders: Mapping[str, Path], *, name: str, lamp: Lamp | None = None) -> None:
        self.name = name
        self._sources = {product: open_source(path, lamp=lamp) for product, path in folders.items()}
        self.refs = tuple(
            replace(ref, extra={**ref.extra, "product": product})
            for product, source in self._sources.items()
            for ref in source.refs
        )
        sources = tuple(self._sources.values())
        self.lamps = tuple(sorted({lamp for source in sources for lamp in source.lamps}))
        self.problems = tuple(problem for source in sources for problem in source.problems)
        self.remarks = tuple(dict.fromkeys(r for source in sources for r in remarks_of(source)))

    def load(self, ref: SampleRef) -> RGBDSample:
        """Read one sample; raises ``DataError`` naming the file and its fault."""
        product = product_of(ref)
        return replace(self._sources[product].load(ref), product=product)


def product_folders(path: Path) -> dict[str, Path]:
    """Return by product the folders with data in a folder that has no layout itself; {} if one.

    Of MVTec 3D-AD, for example, the folder that holds the categories.
    """
    if not path.is_dir() or find_reader("detection", path) is not None:
        return {}
    inside = sorted(p for p in path.iterdir() if p.is_dir() and p.name[0] != ".")
    found = {p.name: p for p in inside if find_reader("detection", p) is not None}
    return found if len(found) > 1 else {}


def find_products(paths: Sequence[Path], *, lamp: Lamp | None = None) -> tuple[ProductData, ...]:
    """Return the products of data, in a stable order; one alone where nothing names several.

    Each of several paths is a product of its folder's name, but for a table or a folder that holds
    several. Of a table, products are told by the good training rows.

    Raises:
        DataError: a path has no known layout.
        ConfigurationError: two products would have one name.
    """
    found: list[ProductData] = []
    for path in paths:
        folders = product_folders(path)
        if folders:
            found += [ProductData(name, folder) for name, folder in folders.items()]
            continue
        source = open_source(path, lamp=lamp)
        normals = [ref for ref in source.refs if ref.split == "train" and ref.label == 0]
        names = sorted({product_of(ref) for ref in normals})
        if len(names) > 1:
            found += [ProductData(_named(name, path), path, name) for name in names]
        else:
            found.append(ProductData(source.name, path))
    names = [product.name for product in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        where = ", ".join(str(product.data) for product in found if product.name == twice[0])
        raise ConfigurationError(
            f"Two products would both be called {twice[0]!r} ({where}): rename one of the folders."
        )
    return tuple(found)


def _named(name: str, path: Path) -> str:
    if name:
        return name
    raise DataError(
        f"{path} names the product of some good training rows and not of others; fill the column, "
        "or remove it to take all rows for one product."
    )


def open_for(
    model: Any, path: Path | str, *, lamp: Lamp | None = None
) -> tuple[SampleSource, tuple[str, ...]]:
    """Open data for a model, as its run saw its parts; of one with products, several at once.

    Returns:
        The source, and what its reader assumed and in what the data differ from the run's.

    Raises:
        DataError: the layout is unknown, or the data lack the run's lamp.
    """
    folders = product_folders(Path(path)) if model.products else {}
    if not folders:
        return open_as_trained(path, model.acquisition, lamp=lamp)
    seen = model.acquisition
    source = ProductFolders(
        folders,
        name=Path(path).resolve().name,
        lamp=lamp if lamp is not None or seen is None else seen.lamp,
    )
    return source, source.remarks


def with_product(sample: RGBDSample, ref: SampleRef) -> RGBDSample:
    """Return a sample with the product that its row names, where it names one."""
    return replace(sample, product=product_of(ref)) if product_of(ref) else sample

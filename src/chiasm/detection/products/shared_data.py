"""Stored features of several products as those of one run, for the network that they share."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiasm.detection.config import DetectionConfig
from chiasm.detection.datamodule import DetectionDataModule
from chiasm.detection.training.feature_store import FeatureStore
from chiasm.errors import ConfigurationError, DataError
from chiasm.files.rows import RowFile


class JoinedRows:
    """Rows of several files, one file after the other; read as those of one.

    Args:
        pieces: each a file and the positions in it that are meant; None stands for all.

    Raises:
        DataError: the rows of two files are not alike.
    """

    def __init__(self, pieces: Sequence[tuple[RowFile, Sequence[int] | None]]) -> None:
        self._files = [file for file, _ in pieces]
        if len({file.names for file in self._files}) > 1:
            raise DataError("The products' parts have different maps; give all the same sensors.")
        self._number = np.concatenate(
            [
                np.full(len(file) if chosen is None else len(chosen), number)
                for number, (file, chosen) in enumerate(pieces)
            ]
        )
        self._position = np.concatenate(
            [
                np.arange(len(file)) if chosen is None else np.asarray(chosen, np.int64)
                for file, chosen in pieces
            ]
        )

    def __len__(self) -> int:
        return len(self._number)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the arrays of a row."""
        return self._files[0].names

    def read(
        self, positions: Sequence[int] | slice, names: Collection[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Read rows by their positions among all, in the given order; see ``RowFile.read``."""
        chosen = np.arange(len(self))[positions if isinstance(positions, slice) else [*positions]]
        joined: dict[str, NDArray[Any]] = {}
        for number in np.unique(self._number[chosen]):
            place = np.flatnonzero(self._number[chosen] == number)
            rows = self._files[number].read(self._position[chosen[place]].tolist(), names)
            for name, values in rows.items():
                if name not in joined:  # in the order of axes in which the rows lie
                    joined[name] = np.empty_like(values, shape=(len(chosen), *values.shape[1:]))
                joined[name][place] = values
        return joined


@dataclass(eq=False)
class SharedDataModule(DetectionDataModule):
    """What the network of several products is searched, trained and compared on.

    Each product's features are relative to its own memory; batches hold rows of all.

    Attributes:
        products: the data of each.
    """

    products: tuple[DetectionDataModule, ...] = ()

    @classmethod
    def of(
        cls, config: DetectionConfig, products: Sequence[DetectionDataModule], *, started: float
    ) -> SharedDataModule:
        """Join the opened data of products.

        Args:
            config: of the run of all.
            products: with stored features.
            started: ``time.monotonic()`` at the start of the run.

        Raises:
            ConfigurationError: their parts have different sensors.
        """
        seen = {data.config.modalities for data in products}
        if len(seen) > 1:
            raise ConfigurationError(
                "Some products have sensors that others lack, and one network cannot look at both: "
                f"{'; '.join(sorted(', '.join(each) for each in seen))}. Name what all have "
                "(modalities=rgb), or train them apart."
            )
        first = products[0]
        facts = {f.name: getattr(first, f.name) for f in fields(DetectionDataModule)}
        facts |= {
            "config": config.model_copy(update={"modalities": first.config.modalities}),
            "started": started,
            "reserved": sum(data.reserved for data in products),
            "training": [],
            "held_out": [],
            "selected_on_calibration": any(data.selected_on_calibration for data in products),
        }
        shared = cls(**facts, products=tuple(products))
        purposes = [data.stores.keys() for data in products if data.stores is not None]
        shared.stores = {
            purpose: shared.stored(purpose)[0]
            for purpose in purposes[0]
            if all(purpose in known for known in purposes)
        }
        return shared

    def stored(self, purpose: str) -> tuple[FeatureStore, list[int] | None]:
        """Return the store of all products' rows for a purpose."""
        stores = [data.stored(purpose) for data in self.products]
        rows = JoinedRows([(store.rows, positions) for store, positions in stores])
        kinds = [
            store.kinds[position]
            for store, positions in stores
            for position in (range(len(store)) if positions is None else positions)
        ]
        return FeatureStore(rows, kinds=kinds), None  # type: ignore[arg-type]  # reads alike

    def remove_stored(self) -> None:
        """Remove the files of stored features of all products."""
        for data in self.products:
            data.remove_stored()

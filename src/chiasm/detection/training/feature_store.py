"""Frozen features of synthetic anomalies: computed once, kept on disk, read by rows."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from chiasm.detection.layers.features import SourcedFeatures
from chiasm.detection.preparation.batch import to_batch
from chiasm.detection.preparation.geometry import GeometryScale
from chiasm.detection.training.synthetic import EpochOrder, SyntheticParts
from chiasm.errors import DataError
from chiasm.files.rows import RowFile
from chiasm.runs.crew import ALONE, Crew
from chiasm.samples import RGBDBatch
from chiasm.training.device import CPU, device_of, in_chunks, loading
from chiasm.training.progress import Progress

FEATURES = "features"  # folder of stored features in the run's folder

_ROWS, _INDEX = "rows.bin", "index.json"
_FOREGROUND, _MASK = "foreground", "mask"
Block = list[tuple[int, int]]  # epoch and number of parts

_MAP, _RELATIVE = "map:", "relative:"  # of the names of fields


@dataclass(frozen=True, slots=True, eq=False)
class StoredBatch:
    """A batch of features that a frozen source computed before, with foreground and mask.

    Attributes:
        features: of the source, float32.
        foreground, mask: ``(N, 1, S, S)``.
    """

    features: SourcedFeatures
    foreground: Tensor
    mask: Tensor

    def pin_memory(self) -> StoredBatch:
        """Return the batch in memory from which a GPU copies while it computes."""

        def pinned(maps: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: value.pin_memory() for name, value in maps.items()}

        features = SourcedFeatures(pinned(self.features.maps), {}, pinned(self.features.relative))
        return StoredBatch(features, self.foreground.pin_memory(), self.mask.pin_memory())


class FeatureStore(Dataset[int]):
    """Features of a frozen source for several epochs of synthetic anomalies, in half precision.

    The features of a frozen source never change, so they are computed once; search, training and
    every comparison then run fusion and head only. They lie in a file, a row for each part and
    epoch, and only the rows of a batch are in memory.

    Args:
        rows: the file.
        names: maps that batches have; None takes all.
        kinds: of each row's synthetic anomaly, by its generator's name; "" where there is none.
    """

    def __init__(
        self, rows: RowFile, names: frozenset[str] | None = None, *, kinds: Sequence[str]
    ) -> None:
        self.rows = rows
        self.names = names
        self.kinds = tuple(kinds)  # a name for each row, of a few different ones

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> int:
        return position

    @classmethod
    def build(
        cls,
        source: Callable[[RGBDBatch], SourcedFeatures],
        dataset: SyntheticParts,
        *,
        folder: Path,
        key: str = "",
        epochs: Sequence[int],
        scale: GeometryScale,
        modalities: Sequence[str],
        batch: int = 8,
        keep_going: Callable[[], bool] = lambda: True,
        progress: Progress | None = None,
        measure: Callable[[StoredBatch, float], None] | None = None,
        crew: Crew = ALONE,
    ) -> FeatureStore:
        """Compute the features of some epochs, or open those that an interrupted run has left.

        Args:
            source: frozen.
            dataset: whose parts are shown to the source.
            folder: of the files, for this store alone; a store with another key is replaced.
            key: of all that decides the features. A complete store in the folder with the same key
                is opened instead; ``""`` never is.
            epochs: of the anomalies.
            scale: of the geometry pictures.
            modalities: that the source reads.
            batch: parts at a time.
            keep_going: whether to go on after a batch; False ends it early, after one epoch.
            progress: counts the parts.
            measure: called once with a batch and the seconds that each of its parts took.
            crew: computes the batches; the first one is this process's, so that it is timed alone.
        """
        if (left := _opened(folder, key)) is not None:
            return cls(left[0], kinds=left[1])
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Renamed when it is complete, so that an interrupted run leaves nothing that looks whole.
        unfinished = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
        try:
            rows = RowFile(unfinished / _ROWS)
            kinds: list[str] = []
            positions = [(epoch, i) for epoch in epochs for i in range(len(dataset))]
            blocks = [positions[i : i + batch] for i in range(0, len(positions), batch)]
            features = _BlockFeatures(source, dataset, scale, tuple(modalities), batch)

            def in_time() -> Iterator[Block]:
                for number, block in enumerate(blocks):
                    if number and number * batch >= len(dataset) and not keep_going():
                        return
                    yield block

            waiting = in_time()
            for first, some in ((True, ALONE), (False, crew)):
                wanted = islice(waiting, 1) if first else waiting
                for block, (found, anomalies, seconds) in some.in_order(features, wanted):
                    for fields in found:
                        rows.append(fields)
                    kinds += anomalies
                    if first and measure is not None:
                        stored = cls(rows, kinds=kinds).collate(range(len(block)))
                        measure(stored, seconds / len(block))
                    if progress is not None:
                        progress.update(len(block))
            index = json.dumps({"key": key, "rows": rows.describe(), "kinds": kinds})
            (unfinished / _INDEX).write_text(index + "\n")
            unfinished.replace(folder)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        return cls(RowFile.described(folder / _ROWS, rows.describe()), kinds=kinds)

    def collate(self, positions: Sequence[int]) -> StoredBatch:
        """Read the rows of a batch, in float32."""
        fields = [
            name
            for name in self.rows.names
            if self.names is None
            or not name.startswith(_MAP)
            or name.removeprefix(_MAP) in self.names
        ]
        values = {
            name: torch.from_numpy(value).float()
            for name, value in self.rows.read(positions, fields).items()
        }

        def named(prefix: str) -> dict[str, Tensor]:
            return {n.removeprefix(prefix): v for n, v in values.items() if n.startswith(prefix)}

        return StoredBatch(
            features=SourcedFeatures(named(_MAP), {}, named(_RELATIVE)),
            foreground=values[_FOREGROUND],
            mask=values[_MASK],
        )

    def only(self, names: frozenset[str]) -> FeatureStore:
        """Return a view of the named maps, so that batches omit what a derived network ignores."""
        return FeatureStore(self.rows, names, kinds=self.kinds)


def _opened(folder: Path, key: str) -> tuple[RowFile, list[str]] | None:
    """Open a complete store that was made from the same; None where there is none."""
    try:
        index = json.loads((folder / _INDEX).read_text())
        if not key or index["key"] != key:
            return None
        return RowFile.described(folder / _ROWS, index["rows"]), [str(k) for k in index["kinds"]]
    except (OSError, ValueError, KeyError, TypeError, DataError):
        return None


@dataclass(frozen=True, eq=False)
class _BlockFeatures:
    """What is stored of a block of parts; for any process.

    Attributes:
        source, dataset, scale, modalities: as for ``FeatureStore.build``.
        batch: parts at a time, fewer where the device's memory is short.
    """

    source: Callable[[RGBDBatch], SourcedFeatures]
    dataset: SyntheticParts
    scale: GeometryScale
    modalities: tuple[str, ...]
    batch: int

    def __call__(self, block: Block) -> tuple[list[dict[str, Any]], list[str], float]:
        """Return the rows, the kind of each part's anomaly, and the seconds that all took."""
        started = time.perf_counter()
        parts = [self.dataset.at(epoch, i) for epoch, i in block]
        compute = partial(
            _features, self.source, parts, scale=self.scale, modalities=self.modalities
        )
        found = list(in_chunks(compute, len(parts), self.batch))
        kinds = [part.kind if part.label == 1 else "" for part, _ in parts]
        return found, kinds, time.perf_counter() - started


@torch.no_grad()
def _features(
    source: Callable[[RGBDBatch], SourcedFeatures],
    parts: Sequence[tuple[Any, int]],
    chosen: slice,
    *,
    scale: GeometryScale,
    modalities: Sequence[str],
) -> dict[str, Any]:
    """Return the fields of chosen rows: features in half precision, foreground and mask."""
    inputs = to_batch(
        [part for part, _ in parts[chosen]],
        scale,
        modalities=modalities,
        indices=[owner for _, owner in parts[chosen]],
        device=device_of(source) if isinstance(source, nn.Module) else None,
    )
    assert inputs.mask is not None
    features = source(inputs)
    halves = {_MAP + name: value.half() for name, value in features.maps.items()}
    halves |= {_RELATIVE + name: value.half() for name, value in features.relative.items()}
    bools = {_FOREGROUND: inputs.foreground.bool(), _MASK: inputs.mask.bool()}
    return {name: value.cpu().numpy() for name, value in (halves | bools).items()}


def stored_loader(
    store: FeatureStore,
    *,
    batch: int,
    seed: int,
    shuffle: bool,
    positions: Sequence[int] | None = None,
    device: torch.device = CPU,
) -> DataLoader[Any]:
    """Make batches of stored features for a device, of those at some positions or of all."""
    chosen: Dataset[int] = store if positions is None else Subset(store, positions)
    count = len(store) if positions is None else len(positions)
    return DataLoader(
        chosen,
        batch_size=batch,
        sampler=EpochOrder(count, seed=seed) if shuffle else None,
        collate_fn=store.collate,
        drop_last=shuffle and count >= batch,
        **loading(device),
    )

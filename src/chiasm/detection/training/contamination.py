"""Hidden defects among normal parts: votes of small memories that were built without a part.

A memory that holds a defective part takes its defect for normal. Half of the parts, drawn at
random, seldom hold the same defect, so that most memories of the others find it far from normal.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from chiasm.detection.layers.features import NormalityFeatures
from chiasm.detection.layers.normality import Moments, NormalMemory
from chiasm.detection.preparation.batch import to_batch
from chiasm.detection.preparation.geometry import GeometryScale
from chiasm.detection.training.fit_memory import described
from chiasm.errors import SplitError
from chiasm.files.rows import RowFile
from chiasm.samples import PreparedSample
from chiasm.training.device import device_of, in_chunks
from chiasm.training.progress import Progress

FEWEST = 20  # parts, of which half can tell what is usual
ROUNDS = 16  # memories, each of half of the parts
ENTRIES = 3_000  # descriptors in each
CELLS = 3  # of the largest distances, whose mean is a part's
BLOCK = 2**16  # descriptors compared at a time
SLACK = 1.5  # a draw of parts can hold more defects than all of them, as a share
FENCE = 3.0  # robust standard deviations: below, a part differs as good ones do
_ROBUST = 1.4826  # of the median absolute deviation of a normal distribution


@dataclass(frozen=True, slots=True)
class Suspicion:
    """How often memories without a part found it far from normal.

    Attributes:
        source: of the part.
        votes: memories that found it farther than good parts are.
        memories: that were built without it.
        deviation: its distance, in robust standard deviations from the median part; the
            median over the memories.
    """

    source: str
    votes: int
    memories: int
    deviation: float

    @property
    def suspicious(self) -> bool:
        """Whether most of the memories found the part far."""
        return 2 * self.votes > self.memories

    def __str__(self) -> str:
        return (
            f"{self.source}: {self.votes} of {self.memories} memories find it far, by "
            f"{self.deviation:.1f} deviations"
        )


@torch.no_grad()
def vote_on_parts(
    source: NormalityFeatures,
    parts: Sequence[PreparedSample],
    *,
    groups: Sequence[int],
    contamination: float,
    scale: GeometryScale,
    others: Sequence[PreparedSample] = (),
    seed: int = 0,
    batch: int = 8,
    folder: Path | None = None,
) -> tuple[list[Suspicion], list[Suspicion]]:
    """Judge each part by memories of other parts.

    Each memory holds half of the parts and judges the others. A part's distance is the mean of the
    three largest of its cells. It is far where it is above that of nearly all judged parts, of more
    than the share ``1 - 1.5 contamination``, and by more than three robust standard deviations.
    The sensors are judged together: the larger deviation counts. The same defect on several parts
    vouches for itself wherever one of them is in the memory.

    Args:
        source: with its memories, which are left as they are.
        parts: prepared normals of which ``contamination`` may be defective.
        groups: of each part; a memory holds all parts of a group or none.
        contamination: share of the parts that may be defective, below a third.
        scale: of the geometry pictures.
        others: parts that no memory holds, judged by the same limits.
        seed: of the draws.
        batch: parts at a time.
        folder: for temporary files; None takes the system's.

    Returns:
        The suspicions of ``parts`` and of ``others``, in their order.

    Raises:
        SplitError: there are fewer than twenty groups of parts.
    """
    names = np.unique(groups)
    if len(names) < FEWEST:
        raise SplitError(
            f"{len(names)} parts or groups of them are too few to find hidden defects among them; "
            f"{FEWEST} are needed. Look at each part, and leave out contamination."
        )
    count = len(parts)
    sources: list[str] = []
    with tempfile.TemporaryDirectory(prefix="votes-", dir=folder) as temporary:
        files = {m: RowFile(Path(temporary) / f"{m}.bin") for m in source.modalities}
        with Progress("Describing parts", count + len(others)) as progress:
            for shown, first in ((parts, 0), (others, count)):

                def describe(chosen: slice, shown=shown, first=first) -> None:  # type: ignore[no-untyped-def]
                    numbers = range(len(shown))[chosen]
                    pieces = [shown[i] for i in numbers]
                    inputs = to_batch(
                        pieces,
                        scale,
                        modalities=source.modalities,
                        indices=[first + i for i in numbers],
                        device=device_of(source),
                    )
                    for modality, values in described(source, inputs).items():
                        files[modality].append(values)
                    sources.extend(piece.source for piece in pieces)
                    progress.update(len(pieces))

                in_chunks(describe, len(shown), batch)
        deviations = _deviations(
            source, files, groups=np.asarray(groups), judged=len(sources), seed=seed
        )
    judged = _votes(deviations, sources, training=count, contamination=contamination)
    return judged[:count], judged[count:]


def _deviations(
    source: NormalityFeatures,
    files: dict[str, RowFile],
    *,
    groups: NDArray[np.int64],
    judged: int,
    seed: int,
) -> NDArray[np.float64]:
    """Compute deviations ``(rounds, parts)`` from the median part; NaN of a memory's own parts."""
    names, count = np.unique(groups), len(groups)
    rng = np.random.default_rng(seed)
    members: list[NDArray[np.bool_]] = []
    while len(members) < ROUNDS:  # halves in pairs, so that equally many judge every part
        half = np.isin(groups, rng.permutation(names)[: len(names) // 2])
        members += [half, ~half]
    found = np.full((ROUNDS, judged), -np.inf)
    with Progress("Voting on parts", ROUNDS * len(files), unit="memories") as progress:
        for modality, rows in files.items():
            moments = Moments()
            for values in rows.blocks(BLOCK, ["descriptor"]):
                moments.add(torch.from_numpy(values["descriptor"]).to(device_of(source)))
            part = rows.read(slice(None), ["owner"])["owner"]
            for number, inside in enumerate(members):
                own = np.append(inside, np.zeros(judged - count, bool))
                memory = _small_memory(
                    source.memories[modality], rows, part, own, moments, seed=seed + number
                )
                peaks = _peak_distances(memory, rows, part, own)
                # Good and bad alike: the median and its deviation are those of the good majority.
                usual = peaks[:count][~inside]
                middle = np.median(usual)
                spread = _ROBUST * np.median(np.abs(usual - middle)) + 1e-9
                found[number] = np.fmax(found[number], (peaks - middle) / spread)
                found[number, own] = np.nan
                progress.update()
    return found


def _small_memory(
    template: NormalMemory,
    rows: RowFile,
    part: NDArray[np.int64],
    own: NDArray[np.bool_],
    moments: Moments,
    *,
    seed: int,
) -> NormalMemory:
    """Fit a memory of random descriptors of some parts."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.from_numpy(np.flatnonzero(own[part]))
    places = places[torch.randperm(len(places), generator=generator)[:ENTRIES]].sort().values
    device = device_of(template)
    memory = NormalMemory(
        channels=template.channels, memory_entries=ENTRIES, stride=template.stride
    ).to(device)
    values = rows.read(places.tolist())
    memory.fit_candidates(
        torch.from_numpy(values["descriptor"]).to(device),
        torch.from_numpy(values["owner"]).to(device),
        mean=moments.mean,
        deviation=moments.deviation,
        generator=generator,
    )
    return memory


def _peak_distances(
    memory: NormalMemory, rows: RowFile, part: NDArray[np.int64], own: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Average the three largest relative distances of each part; NaN of a memory's own parts."""
    places = np.flatnonzero(~own[part])
    pieces = []
    for start in range(0, len(places), BLOCK):
        values = rows.read(places[start : start + BLOCK].tolist(), ["descriptor"])["descriptor"]
        query = torch.from_numpy(values).to(device_of(memory))
        pieces.append(memory.relative_distances(query).cpu().double().numpy())
    distance, judged = np.concatenate(pieces), part[places]
    order = np.lexsort((-distance, judged))
    distance, judged = distance[order], judged[order]
    peaks = np.full(len(own), np.nan)
    for number in np.flatnonzero(~own):
        start, stop = np.searchsorted(judged, (number, number + 1))
        peaks[number] = distance[start : min(start + CELLS, stop)].mean()
    return peaks


def _votes(
    deviations: NDArray[np.float64], sources: Sequence[str], *, training: int, contamination: float
) -> list[Suspicion]:
    """Count the memories that find a part far."""
    level = max(1 - SLACK * contamination, 0.5)
    limits = np.nanquantile(deviations[:, :training], level, axis=1, method="lower", keepdims=True)
    far = deviations > np.fmax(limits, FENCE)
    return [
        Suspicion(
            source=name,
            votes=int(far[:, i].sum()),
            memories=int((~np.isnan(deviations[:, i])).sum()),
            deviation=round(float(np.nanmedian(deviations[:, i])), 2),
        )
        for i, name in enumerate(sources)
    ]

"""Distances and residuals from the nearest features of normal parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from chiasm.detection.layers.maps import cells_inside
from chiasm.detection.layers.nearest import greedy_k_centres
from chiasm.detection.layers.patches import gather, gather_owners, join_strides
from chiasm.training.device import in_chunks, in_double, rows_at_once

_MOST_CANDIDATES = 60_000  # descriptors from which a coreset is chosen
_DIRECTIONS = 64
_LEAST_USUAL = 1e-6
_FEWEST = 8


class Moments:
    """Mean and standard deviation per channel of rows that come in blocks.

    One block gives ``mean`` and ``std`` of it, to the bit; several are merged in double precision.

    References:
        Chan et al., Updating Formulae and a Pairwise Algorithm for Computing Sample Variances,
        Technical Report STAN-CS-79-773, 1979.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros(0)
        self.deviation = torch.zeros(0)

    def add(self, rows: Tensor) -> None:
        """Add a block ``(N, D)`` of rows."""
        if not len(rows):
            return
        mean = rows.mean(dim=0)
        deviation = rows.std(dim=0) if len(rows) > 1 else torch.zeros_like(mean)
        if self.count:
            mean, deviation = self._merged(len(rows), mean, deviation)
        self.count += len(rows)
        self.mean, self.deviation = mean, deviation

    def _merged(self, count: int, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
        total = self.count + count
        before = in_double(self.mean)
        step = in_double(mean) - before
        squares = (
            in_double(self.deviation).square() * (self.count - 1)
            + in_double(deviation).square() * (count - 1)
            + step.square() * (self.count * count / total)
        )
        merged = before + step * (count / total)
        return merged.to(mean), (squares / (total - 1)).sqrt().to(mean)


def drawn_candidates(count: int, generator: torch.Generator) -> Tensor:
    """Draw the numbers of the descriptors, of ``count``, that a memory chooses from."""
    return torch.randperm(count, generator=generator)[:_MOST_CANDIDATES]


@dataclass(frozen=True, slots=True, eq=False)
class Normality:
    """Distance of a batch from normal, at the resolution ``h x w`` of a memory of normals.

    Attributes:
        offset: ``(N, D, h, w)`` difference from the nearest normal descriptor, with its sign.
        distance: ``(N, 1, h, w)`` Euclidean distance to it.
        relative: ``(N, 1, h, w)`` the distance over the usual distance near that normal; about 1
            on normal parts. Highlights and ridges, where normals differ much among themselves,
            have a large usual distance and therefore a small relative one.
    """

    offset: Tensor
    distance: Tensor
    relative: Tensor

    @property
    def residual(self) -> Tensor:
        """``(N, D, h, w)`` absolute difference from the nearest normal descriptor."""
        return self.offset.abs()


class NormalMemory(nn.Module):
    """Descriptors of normal parts, with their owners and their usual distances.

    A descriptor joins the backbone's maps of all strides, each averaged over 3 x 3, standardised
    per channel and weighted so that every stride has the same weight, at the resolution of stride
    8. In training a part is compared with the *other* parts only (``index`` excludes its own
    entries): otherwise its distances would be zero and carry no information.

    Args:
        channels: channels per stride, as the backbone states them.
        memory_entries: descriptors kept at most.
        stride: pixels of the input per descriptor.

    References:
        Roth et al., Towards Total Recall in Industrial Anomaly Detection, CVPR 2022 (memory of
        patch features); the relative distance follows the local reachability idea of Breunig et
        al., LOF, SIGMOD 2000.
    """

    bank: Tensor
    owner: Tensor
    usual: Tensor
    mean: Tensor
    weight: Tensor

    def __init__(
        self, *, channels: Mapping[int, int], memory_entries: int = 4_000, stride: int = 8
    ) -> None:
        super().__init__()
        self.channels = dict(channels)
        self.memory_entries = memory_entries
        self.stride = stride
        dimension = sum(self.channels.values())
        self.register_buffer("bank", torch.zeros(0, dimension))
        self.register_buffer("owner", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("usual", torch.zeros(0))
        self.register_buffer("mean", torch.zeros(dimension))
        self.register_buffer("weight", torch.ones(dimension))

    @property
    def dimension(self) -> int:
        """Length of a descriptor."""
        return int(self.mean.numel())

    def describe(self, features: Mapping[int, Tensor]) -> Tensor:
        """Join the maps of all strides to ``(N, D, h, w)``, before standardisation."""
        return join_strides(
            {s: features[s] for s in self.channels}, size=features[self.stride].shape[-2:]
        )

    @torch.no_grad()
    def fit(self, descriptors: Tensor, owners: Tensor, *, seed: int = 0) -> None:
        """Keep at most ``memory_entries`` descriptors of normal parts: those that cover the rest.

        Greedy k-centre on random projections, from a random subset of at most 60,000. On real parts
        4,000 entries chosen in this way are as good as 20,000 random ones (docs/results).

        Args:
            descriptors: ``(M, D)``, of ``describe``, object pixels only.
            owners: ``(M,)`` number of the training part of each.
            seed: of the choice.
        """
        moments = Moments()
        moments.add(descriptors)
        generator = torch.Generator().manual_seed(seed)
        chosen = drawn_candidates(len(descriptors), generator)
        self.fit_candidates(
            descriptors[chosen.to(descriptors.device)],
            owners[chosen.to(owners.device)],
            mean=moments.mean,
            deviation=moments.deviation,
            generator=generator,
        )

    @torch.no_grad()
    def fit_candidates(
        self,
        candidates: Tensor,
        owners: Tensor,
        *,
        mean: Tensor,
        deviation: Tensor,
        generator: torch.Generator,
    ) -> None:
        """Keep at most ``memory_entries`` of the candidates.

        Args:
            candidates: ``(K, D)`` descriptors, drawn by ``drawn_candidates``.
            owners: ``(K,)`` number of the training part of each.
            mean, deviation: ``(D,)`` of all descriptors, those that are no candidates among them.
            generator: which drew the candidates.

        Raises:
            ValueError: there are fewer than eight candidates.
        """
        if len(candidates) < _FEWEST:
            raise ValueError("A memory of normals needs at least eight descriptors.")
        self.mean = mean
        per_stride = torch.cat(
            [torch.full((count,), count**-0.5) for count in self.channels.values()]
        )
        self.weight = per_stride.to(candidates) / (deviation + 1e-6)
        standardised = (candidates - self.mean) * self.weight
        if len(candidates) > self.memory_entries:
            directions = torch.randn(self.dimension, _DIRECTIONS, generator=generator)
            projected = standardised @ directions.to(standardised)
            kept = greedy_k_centres(projected, self.memory_entries)
            standardised, owners = standardised[kept], owners[kept]
        self.bank = standardised
        self.owner = owners.clone()
        distance, _ = self._nearest(self.bank, self.owner, count=4)
        usual = distance.mean(dim=1)
        # Half the median bounds the ratio where normals are nearly identical, and the minimum
        # keeps it finite where they are copies.
        self.usual = (usual + 0.5 * usual.median()).clamp(min=_LEAST_USUAL)

    def forward(
        self, features: Mapping[int, Tensor], foreground: Tensor, index: Tensor | None = None
    ) -> Normality:
        """Compare a batch with the normals; pixels off the object are zero.

        Args:
            features: the backbone's maps.
            foreground: ``(N, 1, S, S)``.
            index: ``(N,)`` numbers of training parts to exclude, -1 for none.
        """
        descriptors = self.describe(features)
        shape = descriptors.shape
        inside = cells_inside(foreground, shape[-2:])
        query = (gather(descriptors, inside) - self.mean) * self.weight
        owners = None if index is None else gather_owners(index, inside)
        distance, number = self._nearest(query, owners, count=3)
        nearest = number[:, 0]
        relative = distance[:, 0] / self.usual[number].mean(dim=1)

        def scatter(values: Tensor) -> Tensor:
            out = values.new_zeros(shape[0], *shape[-2:], values.shape[1])
            out[inside] = values
            return out.permute(0, 3, 1, 2)  # n h w c -> n c h w

        return Normality(
            offset=scatter(query - self.bank[nearest]),
            distance=scatter(distance[:, :1]),
            relative=scatter(relative[:, None]),
        )

    def relative_distances(self, descriptors: Tensor) -> Tensor:
        """Compute the relative distances ``(Q,)`` of descriptors that are not in the memory.

        Args:
            descriptors: ``(Q, D)``, of ``describe``.
        """
        distance, number = self._nearest((descriptors - self.mean) * self.weight, None, count=3)
        return distance[:, 0] / self.usual[number].mean(dim=1)

    def _nearest(
        self, query: Tensor, owners: Tensor | None, *, count: int, chunk: int = 1024
    ) -> tuple[Tensor, Tensor]:
        """Distances and numbers ``(Q, count)`` of the nearest entries of other owners."""
        squares = (self.bank * self.bank).sum(dim=1)

        def search(rows: slice) -> tuple[Tensor, Tensor]:
            part = query[rows]
            squared = torch.addmm(squares, part, self.bank.T, alpha=-2)
            if owners is not None:
                squared.masked_fill_(owners[rows, None] == self.owner[None], float("inf"))
            nearest = squared.topk(count, dim=1, largest=False)
            query_square = (part * part).sum(dim=1, keepdim=True)
            return (nearest.values + query_square).clamp(min=0).sqrt(), nearest.indices

        if not len(query):
            empty = query.new_zeros(0, count)
            return empty, empty.long()
        # A row of the table of distances, and of the owners that are compared.
        size = rows_at_once(query.device, 5 * len(self.bank), usual=chunk)
        distances, numbers = zip(*in_chunks(search, len(query), size))
        return torch.cat(distances), torch.cat(numbers)

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: object
    ) -> None:
        # The bank's length is known after fitting only, so buffers take the stored shapes.
        for name in ("bank", "owner", "usual"):
            stored = state_dict.get(prefix + name)
            if stored is not None:
                setattr(self, name, torch.empty_like(stored, device=self.mean.device))
        super()._load_from_state_dict(state_dict, prefix, *args)

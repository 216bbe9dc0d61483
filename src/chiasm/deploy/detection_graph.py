"""A trained detector as one graph of tensor arithmetic, from prepared crop to decision."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chiasm.deploy.graph_attention import replace_attention
from chiasm.deploy.map_products import MapProducts
from chiasm.deploy.norms import fold_batch_norms
from chiasm.detection.detector import Detector
from chiasm.detection.layers.nearest import greedy_k_centres
from chiasm.detection.layers.normality import Normality, NormalMemory
from chiasm.detection.models.adnas import AdnasDetector
from chiasm.errors import ConfigurationError
from chiasm.registry import models
from chiasm.samples import RGBDBatch

OUTPUTS = ("anomaly_map", "score", "p_value", "defective")

_NEIGHBOURS = 3

_GROUPS = 32  # of entries, each with one candidate; the size of a vector register

_CANDIDATES = 8  # compared by whole descriptors

_PORTIONS = 4  # of the cells

_AT_ONCE = 128  # cells; the last portions are padded, so that few lengths occur


class DetectorGraph(nn.Module):
    """The exported graph: the detector, its score rule, its calibration and its decision.

    Args:
        detector: pruned; it is put into evaluation mode, so pass a copy.
        modalities: in the order of the graph's inputs.
        calibration: ``(n,)`` scores of held-out normals.
        rank: a part is called defective above the largest but ``rank - 1`` of them.
        memories: modality to its memory of normals, within the detector.
    """

    calibration: Tensor

    def __init__(
        self,
        detector: Detector,
        *,
        modalities: Sequence[str],
        calibration: Sequence[float],
        rank: int,
        memories: Mapping[str, GraphMemory] | None = None,
    ) -> None:
        super().__init__()
        self.detector = detector.eval()
        self.memories = dict(memories or {})
        self.modalities = tuple(modalities)
        self.register_buffer("calibration", torch.tensor([list(calibration)], dtype=torch.float32))
        # A count: a rate in float32 could decide differently at the limit itself.
        self.rank = rank

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        return (*self.modalities, "foreground")

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Score prepared crops and decide.

        Args:
            tensors: those of ``inputs``: pictures ``(N, 3, S, S)`` in [0, 1] and the foreground
                ``(N, 1, S, S)``, 1 on the object.

        Returns:
            Map ``(N, 1, S, S)``, score ``(N,)``, p-value ``(N,)`` and decision ``(N,)`` bool.
        """
        inputs = dict(zip(self.inputs, tensors))
        inside = (inputs["foreground"] > 0.5).to(tensors[0].dtype)
        pictures = {name: inputs[name] * inside for name in self.modalities}
        batch = RGBDBatch(pictures.get("rgb"), pictures.get("geometry"), inside)
        output = self.detector(batch)
        maps = self.detector.scores(output, inside)
        scores = self.detector.image_scores(output, maps, inside)
        at_least = (self.calibration >= scores[:, None]).to(scores.dtype).sum(dim=1)
        p_value = (1 + at_least) / (self.calibration.shape[1] + 1)
        return maps, scores, p_value, at_least < self.rank


class GraphMemory(nn.Module):
    """A memory of normals as one graph: cells on the object only, in portions of 128.

    Args:
        memory: fitted.
        entries: descriptors to keep, chosen by greedy k-centre; None keeps all.
        channels: principal directions of the descriptors in which the nearest of each of thirty-two
            groups of entries is searched, a candidate for the nearest of all; None compares whole
            descriptors. Distances and residuals are of whole descriptors in both cases.
    """

    bank: Tensor
    directions: Tensor | None
    searched: Tensor
    half_squares: Tensor
    usual: Tensor
    shift: Tensor
    weight: Tensor

    def __init__(
        self, memory: NormalMemory, *, entries: int | None = None, channels: int | None = None
    ) -> None:
        super().__init__()
        self.channels = dict(memory.channels)
        self.describe = memory.describe
        bank, usual = memory.bank, memory.usual
        if entries is not None and entries < len(bank):
            kept = greedy_k_centres(bank, entries)
            bank, usual = bank[kept], usual[kept]
        directions, searched = None, bank
        if channels is not None and channels < bank.shape[1]:
            # Groups have one length: some entries occur twice.
            kept = torch.arange(-(-len(bank) // _GROUPS) * _GROUPS) % len(bank)
            bank, usual = bank[kept], usual[kept]
            # Only differences of descriptors matter, so their mean needs no subtraction.
            directions = torch.linalg.svd(bank - bank.mean(dim=0), full_matrices=False)[2]
            directions = directions[:channels].T.contiguous()
            searched = bank @ directions
        self.register_buffer("bank", bank.clone())
        self.register_buffer("directions", directions)
        self.register_buffer("half_squares", searched.square().sum(dim=1) / 2)
        self.register_buffer("searched", searched.T.contiguous())
        self.register_buffer("usual", usual.clone())
        self.register_buffer("weight", memory.weight.view(1, -1, 1, 1).clone())
        self.register_buffer("shift", (-memory.mean * memory.weight).view(1, -1, 1, 1).clone())

    def forward(
        self, features: dict[int, Tensor], foreground: Tensor, index: Tensor | None = None
    ) -> Normality:
        """As ``NormalMemory``, for parts that are not in the memory."""
        descriptors = self.describe(features) * self.weight + self.shift
        step = foreground.shape[-1] // descriptors.shape[-1]
        inside = F.max_pool2d(foreground, step, step)[:, 0] > 0.5
        on_object = inside.flatten().to(torch.int64)
        cell = _portioned(on_object)
        # Rows of cells, in the order in which the products before store them.
        rows = descriptors.permute(0, 2, 3, 1).flatten(0, 2)  # (n h w) d
        query = rows.index_select(0, cell).view(_PORTIONS, -1, rows.shape[1])
        projected = query if self.directions is None else query @ self.directions
        # A few cells at a time stay in the processor's cache between product and selection.
        parts = zip(projected.split(1), query.split(1))
        number = torch.cat([self._nearest(*part) for part in parts], dim=0)  # p q 3
        difference = query - F.embedding(number[..., 0], self.bank)
        # Distances from differences: expanded squares lose small distances in low precision.
        distance = (difference * difference).sum(dim=2, keepdim=True).sqrt()
        relative = distance / self.usual[number].mean(dim=2, keepdim=True)
        position = (on_object.cumsum(dim=0) - 1).clamp(min=0)

        def grid(values: Tensor) -> Tensor:
            # p q c -> n c h w, zero off the object
            expanded = values.flatten(0, 1).index_select(0, position)
            return expanded.unflatten(0, inside.shape).permute(0, 3, 1, 2) * inside[:, None]

        return Normality(
            offset=grid(difference),
            distance=grid(distance),
            relative=grid(relative),
        )

    def _nearest(self, projected: Tensor, query: Tensor) -> Tensor:
        """Numbers ``(1, Q, 3)`` of the nearest entries to cells.

        Args:
            projected: ``(1, Q, C)`` descriptors in the searched channels.
            query: ``(1, Q, D)`` whole descriptors.
        """
        # Larger is nearer: minus half of the squared distance, up to a term common to all entries.
        if self.directions is None:
            # Entries by cells: the maxima of columns are computed in parallel.
            similarity = self.bank @ projected.transpose(1, 2) - self.half_squares[:, None]
            return similarity.topk(_NEIGHBOURS, dim=1).indices.transpose(1, 2)
        similarity = projected @ self.searched - self.half_squares
        # The best of each group, since one maximum is far faster than several. Groups interleave
        # entries, so that one instruction compares a register of entries with the next.
        best, position = similarity.unflatten(2, (-1, _GROUPS)).topk(1, dim=2)
        among = best.squeeze(2).topk(_CANDIDATES, dim=2).indices
        number = position.squeeze(2).gather(2, among) * _GROUPS + among  # 1 q k
        # The best of these by whole descriptors: entries near in some directions may be far.
        difference = query[:, :, None] - F.embedding(number, self.bank)  # 1 q k d
        order = (difference * difference).sum(dim=3).topk(_NEIGHBOURS, dim=2, largest=False).indices
        return number.gather(2, order)


def _portioned(inside: Tensor) -> Tensor:
    """Return the numbers of the ones in ``(T,)``, the last repeated until portions are full."""
    count = inside.sum()
    padding = torch.arange(_AT_ONCE, device=inside.device) < _AT_ONCE - count % _AT_ONCE
    kept = torch.cat([inside > 0, padding]).nonzero()[:, 0]
    torch._check(kept.shape[0] % _PORTIONS == 0)
    return kept.clamp(max=inside.shape[0] - 1)


def check_exportable(detector: Detector) -> None:
    """Raise ``ConfigurationError`` for a method that is no graph, however it is calibrated."""
    if (obstacle := detector.export_obstacle) is not None:
        exportable = ", ".join(model.name for model in models("detector") if model.pools)
        raise ConfigurationError(
            f"{type(detector.core).__name__} cannot be exported: {obstacle}. "
            f"These models can be exported: {exportable}. With few good parts they hold out as "
            "many as the false-alarm rate needs. Unexported, 'chiasm predict' and 'chiasm watch' "
            "take the run as it is."
        )


def detector_graph(
    detector: Detector,
    *,
    modalities: Sequence[str],
    calibration: Sequence[float],
    rank: int,
    memory_entries: int | None = None,
    search_channels: int | None = None,
) -> DetectorGraph:
    """Build the graph of a trained detector, which is not changed.

    Args:
        detector: of ``load_model``.
        modalities: that it reads.
        calibration: scores of held-out normals.
        rank: of the threshold among them, see ``AlarmRule.rank``.
        memory_entries: descriptors of normals to keep for each modality; None keeps all.
        search_channels: channels in which the nearest of them are searched; None takes all.

    Raises:
        ConfigurationError: the method cannot be exported, or has no memory to reduce.
    """
    check_exportable(detector)
    whole = copy.deepcopy(detector).eval()
    exported = cast(AdnasDetector, whole.core)
    source = exported.frozen_source
    memories = {
        name: GraphMemory(memory, entries=memory_entries, channels=search_channels)
        for name, memory in (source.memories.items() if source is not None else ())
    }
    if (memory_entries is not None or search_channels is not None) and not memories:
        raise ConfigurationError(
            "This model has no memory of normals; leave out --memory-entries and --search-channels."
        )
    if source is not None:
        source.memories = nn.ModuleDict(memories)  # type: ignore[assignment]  # of the graph
    replace_attention(exported.fusion)
    exported.maps = whole.maps = MapProducts()  # type: ignore[assignment]  # the same methods
    fold_batch_norms(exported)
    for weight in ("head_weight", "normality_weight"):
        # As numbers they are constants of the graph, which fixes the score rule's only branch.
        value = float(getattr(exported, weight))
        delattr(exported, weight)
        setattr(exported, weight, value)
    return DetectorGraph(
        whole,
        modalities=modalities,
        calibration=calibration,
        rank=rank,
        memories=memories,
    )

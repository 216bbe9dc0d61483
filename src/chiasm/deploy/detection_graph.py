"""A trained detector as one graph of tensor arithmetic: prepared crop in, decision out."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from chiasm.detection.detector import Detector
from chiasm.detection.layers.features import NormalityFeatures
from chiasm.detection.layers.nearest import greedy_k_centres
from chiasm.detection.layers.normality import Normality, NormalMemory
from chiasm.detection.models.adnas import AdnasDetector
from chiasm.errors import ConfigurationError
from chiasm.fusion.cell import DerivedCell
from chiasm.fusion.operations import GuidedAttention
from chiasm.fusion.projection import Projection
from chiasm.registry import models
from chiasm.samples import RGBDBatch

OUTPUTS = ("anomaly_map", "score", "p_value", "defective")

_NEIGHBOURS = 3

_GROUPS = 32  # of entries, each of which names a candidate: neighbours in a vector register

_CANDIDATES = 8  # that are looked at again

_PORTIONS = 4  # of the cells

_AT_ONCE = 128  # cells; the last portions are filled up, so that few lengths come about


class DetectorGraph(nn.Module):
    """What is exported: the detector, its score rule, its calibration and its decision.

    Args:
        detector: pruned, in evaluation mode; it is changed, so pass a copy.
        modalities: in the order of the graph's inputs.
        calibration: ``(n,)`` scores of held-out normals.
        false_alarm_rate: at which a part is called defective.
    """

    calibration: Tensor

    def __init__(
        self,
        detector: Detector,
        *,
        modalities: Sequence[str],
        calibration: Sequence[float],
        false_alarm_rate: float,
    ) -> None:
        super().__init__()
        self.detector = detector.eval()
        self.modalities = tuple(modalities)
        self.register_buffer("calibration", torch.tensor([list(calibration)], dtype=torch.float32))
        normals = len(calibration)
        # Counted in whole numbers: a rate in float32 could decide otherwise at its own edge.
        self.most_above = sum((1 + k) / (normals + 1) <= false_alarm_rate for k in range(normals))

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        return (*self.modalities, "foreground")

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Judge prepared crops.

        Args:
            tensors: those of ``inputs``: pictures ``(N, 3, S, S)`` in [0, 1] and the foreground
                ``(N, 1, S, S)``, 1 on the object.

        Returns:
            Map ``(N, 1, S, S)``, score ``(N,)``, p-value ``(N,)`` and decision ``(N,)`` bool.
        """
        given = dict(zip(self.inputs, tensors))
        inside = (given["foreground"] > 0.5).to(tensors[0].dtype)
        pictures = {name: given[name] * inside for name in self.modalities}
        batch = RGBDBatch(pictures.get("rgb"), pictures.get("geometry"), inside)
        output = self.detector(batch)
        maps = self.detector.scores(output, inside)
        scores = self.detector.image_scores(output, maps)
        at_least = (self.calibration >= scores[:, None]).to(scores.dtype).sum(dim=1)
        p_value = (1 + at_least) / (self.calibration.shape[1] + 1)
        return maps, scores, p_value, at_least < self.most_above


class GraphMemory(nn.Module):
    """A memory of normals as one graph: cells off the object are left out, in portions of 128.

    Args:
        memory: fitted.
        entries: descriptors to keep, chosen by greedy k-centre among those that there are; None
            keeps all.
        channels: principal directions of the descriptors in which the nearest of each of thirty-two
            groups of entries is looked for, the candidates for the nearest of all; None compares
            whole descriptors. Distances and residuals are of whole ones either way.
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
            # Groups of one length: some of the entries are there twice.
            kept = torch.arange(-(-len(bank) // _GROUPS) * _GROUPS) % len(bank)
            bank, usual = bank[kept], usual[kept]
            # Differences of descriptors are what counts, so that their mean may be left out.
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
        """As ``NormalMemory``, of parts that it has not seen."""
        described = self.describe(features) * self.weight + self.shift
        step = foreground.shape[-1] // described.shape[-1]
        inside = F.max_pool2d(foreground, step, step)[:, 0] > 0.5
        seen_of = inside.flatten().to(torch.int64)
        cell = _portioned(seen_of)
        # Rows of cells, as the products before leave them in memory.
        rows = described.permute(0, 2, 3, 1).flatten(0, 2)  # (n h w) d
        query = rows.index_select(0, cell).view(_PORTIONS, -1, rows.shape[1])
        seen = query if self.directions is None else query @ self.directions
        # A few cells at a time stay in the processor's cache between product and choice.
        parts = zip(seen.split(1), query.split(1))
        number = torch.cat([self._nearest(*part) for part in parts], dim=0)  # p q 3
        difference = query - F.embedding(number[..., 0], self.bank)
        # From the differences: the expanded squares lose small distances in low precision.
        distance = (difference * difference).sum(dim=2, keepdim=True).sqrt()
        relative = distance / self.usual[number].mean(dim=2, keepdim=True)
        place = (seen_of.cumsum(dim=0) - 1).clamp(min=0)

        def grid(values: Tensor) -> Tensor:
            # p q c -> n c h w, zero off the object
            spread = values.flatten(0, 1).index_select(0, place)
            return spread.unflatten(0, inside.shape).permute(0, 3, 1, 2) * inside[:, None]

        return Normality(
            residual=grid(difference.abs()),
            distance=grid(distance),
            relative=grid(relative),
        )

    def _nearest(self, seen: Tensor, query: Tensor) -> Tensor:
        """Numbers ``(1, Q, 3)`` of the nearest entries to cells.

        Args:
            seen: ``(1, Q, C)`` what is looked at first.
            query: ``(1, Q, D)`` the whole descriptors.
        """
        # Larger is nearer: half of the squared distance, less what is common to all entries,
        # negated.
        if self.directions is None:
            # Entries by cells: the best of columns are found side by side.
            similarity = self.bank @ seen.transpose(1, 2) - self.half_squares[:, None]
            return similarity.topk(_NEIGHBOURS, dim=1).indices.transpose(1, 2)
        similarity = seen @ self.searched - self.half_squares
        # The best of each group, for one best of many is found far quicker than several. Entries
        # take turns in the groups: those of one register are compared with the next at a stroke.
        best, place = similarity.unflatten(2, (-1, _GROUPS)).topk(1, dim=2)
        among = best.squeeze(2).topk(_CANDIDATES, dim=2).indices
        number = place.squeeze(2).gather(2, among) * _GROUPS + among  # 1 q k
        # The best of these by whole descriptors: what is near in some directions may be far.
        away = query[:, :, None] - F.embedding(number, self.bank)  # 1 q k d
        order = (away * away).sum(dim=3).topk(_NEIGHBOURS, dim=2, largest=False).indices
        return number.gather(2, order)


def _portioned(inside: Tensor) -> Tensor:
    """Numbers of the cells that are 1 in ``(T,)``, the last repeated until portions are full."""
    count = inside.sum()
    spare = torch.arange(_AT_ONCE, device=inside.device) < _AT_ONCE - count % _AT_ONCE
    kept = torch.cat([inside > 0, spare]).nonzero()[:, 0]
    torch._check(kept.shape[0] % _PORTIONS == 0)
    return kept.clamp(max=inside.shape[0] - 1)


class GraphAttention(nn.Module):
    """Guided attention written as the products that runtimes know as attention, one head of four
    axes, and calculate without keeping the weights.

    Args:
        attention: of the fusion network.
    """

    def __init__(self, attention: GuidedAttention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """As ``GuidedAttention``."""
        rows, columns = (self.attention.pooled_side(side) for side in x.shape[-2:])
        query = x.flatten(2).transpose(1, 2)[:, None]  # n c h w -> n 1 (h w) c
        memory = F.adaptive_avg_pool2d(y, (rows, columns)).flatten(2).transpose(1, 2)[:, None]
        weights = (query @ memory.transpose(2, 3) * query.shape[-1] ** -0.5).softmax(dim=3)
        answer = (weights @ memory).transpose(2, 3)  # n 1 c (h w)
        normed: Tensor = self.attention.norm(answer.reshape(x.shape))
        return normed


def detector_graph(
    detector: Detector,
    *,
    modalities: Sequence[str],
    calibration: Sequence[float],
    false_alarm_rate: float,
    memory_entries: int | None = None,
    search_channels: int | None = None,
) -> DetectorGraph:
    """The graph of a trained detector; the detector itself is left as it is.

    Args:
        detector: as ``load_model`` gives it.
        modalities: that it looks at.
        calibration: scores of held-out normals.
        false_alarm_rate: of the decision.
        memory_entries: descriptors of normals to keep for each modality; None keeps all.
        search_channels: channels in which the nearest of them are looked for; None takes all.

    Raises:
        ConfigurationError: the method has no such graph, or no memory to make smaller.
    """
    if not isinstance(detector, AdnasDetector):
        exportable = ", ".join(model.name for model in models("detector") if model.pools)
        raise ConfigurationError(
            f"{type(detector).__name__} cannot be exported: its memory or its steps are no graph "
            f"of tensors. These models can be exported: {exportable}."
        )
    own = copy.deepcopy(detector).eval()
    memories: Any = own.source.memories if isinstance(own.source, NormalityFeatures) else {}
    if (memory_entries is not None or search_channels is not None) and not len(memories):
        raise ConfigurationError(
            "This model has no memory of normals; leave out --memory-entries and --search-channels."
        )
    for name in list(memories):
        memories[name] = GraphMemory(
            memories[name], entries=memory_entries, channels=search_channels
        )
    for cell in [m for m in own.fusion.modules() if isinstance(m, DerivedCell)]:
        for number, operation in enumerate(cell.nodes):
            if isinstance(operation, GuidedAttention):
                cell.nodes[number] = GraphAttention(operation)
    fold_batch_norms(own)
    for weight in ("head_weight", "normality_weight"):
        # As numbers they are constants of the graph, and the rule's one branch is taken for good.
        value = float(getattr(own, weight))
        delattr(own, weight)
        setattr(own, weight, value)
    return DetectorGraph(
        own, modalities=modalities, calibration=calibration, false_alarm_rate=false_alarm_rate
    )


def fold_batch_norms(network: nn.Module) -> None:
    """Fold every batch norm of a network in evaluation mode, in place.

    Raises:
        ConfigurationError: one follows no convolution, so that it cannot be folded.
    """
    for module in list(network.modules()):
        if isinstance(module, Projection):
            _fold_projection(module)
        elif isinstance(module, nn.Sequential):
            _fold_sequence(module)
    left = [name for name, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)]
    if left:
        raise ConfigurationError(
            f"The batch norms {', '.join(left)} follow no convolution and cannot be folded, so "
            "this network cannot be exported."
        )


def _fold_sequence(layers: nn.Sequential) -> None:
    for place in range(len(layers) - 1):
        before, norm = layers[place], layers[place + 1]
        if isinstance(before, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            layers[place] = fuse_conv_bn_eval(before, norm)
            layers[place + 1] = nn.Identity()


@torch.no_grad()
def _fold_projection(projection: Projection) -> None:
    """The norm of a sum of resized convolutions: each takes the scale, the first the shift.

    Resizing weighs with shares that sum to 1, so that a constant passes it unchanged.
    """
    norm = projection.norm
    if not isinstance(norm, nn.BatchNorm2d):
        return
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    shift = norm.bias - norm.running_mean * scale
    for number, layer in enumerate(projection.layers):
        assert isinstance(layer, nn.Conv2d)
        layer.weight.mul_(scale.view(-1, 1, 1, 1))
        layer.bias = nn.Parameter(shift.clone() if number == 0 else torch.zeros_like(shift))
    projection.norm = nn.Identity()  # type: ignore[assignment]  # declared as the norm it replaces

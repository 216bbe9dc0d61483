"""A detector trained in two processes has the loss curve of one process.

In double precision: in single precision the gradients of one process already differ from these by
some per cent, because ReLU and pooling turn rounding into other choices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from chiasm.detection.config import DetectionConfig
from chiasm.detection.datamodule import DetectionDataModule
from chiasm.detection.fusion_search.fixed_fusion import crew_of
from chiasm.detection.models.adnas import AdnasDetector, BranchSize, _from_scratch
from chiasm.detection.train import train
from chiasm.detection.training.segment import SegmentationTraining
from chiasm.errors import ConfigurationError
from chiasm.fusion.operations import OPERATIONS
from chiasm.runs.crew import ALONE
from chiasm.samples import RGBDBatch
from chiasm.training.trainer import Budget, fit
from rank_group import RankGroup, rank_group
from stub_training import Losses, StubCrew

SIZE = 64


class Numbers(Dataset[int]):
    def __len__(self) -> int:
        return 10

    def __getitem__(self, number: int) -> int:
        return number


def parts(numbers: Sequence[int]) -> RGBDBatch:
    """Parts of noise, each with a foreground of its own size, in double precision."""

    def picture(channels: int, kind: int) -> Tensor:
        drawn = []
        for number in numbers:
            generator = torch.Generator().manual_seed(10 * number + kind)
            drawn.append(torch.rand(channels, SIZE, SIZE, generator=generator))
        return torch.stack(drawn).double()

    foreground = torch.zeros(len(numbers), 1, SIZE, SIZE, dtype=torch.float64)
    for row, number in enumerate(numbers):
        foreground[row, :, 4 : 30 + 3 * number, 8:56] = 1
    mask = (picture(1, 2) > 0.9).double() * foreground
    return RGBDBatch(
        picture(3, 0),
        picture(3, 1),
        foreground,
        mask,
        clean_rgb=picture(3, 3),
        clean_geometry=picture(3, 4),
    )


def detector(*, as_published: bool) -> AdnasDetector:
    torch.manual_seed(0)
    branch: BranchSize = {"width": 4, "stem": 1 if as_published else 2}
    made = _from_scratch(
        "concatenation",
        branch=branch,
        width=4,
        size=SIZE // 4,
        hidden=(8, 8),
        as_published=as_published,
        modalities=("rgb", "geometry"),
        pools=None,
        cells=("early", "middle", "late"),
        candidates=("*",),
        nodes=2,
        operations=tuple(OPERATIONS),
        middle_scales=(2, 3),
    )
    if not as_published:
        made.map_dropout = 0.3
        made.recompute_activations()
    return made.double()


def curve(folder: Path, *, as_published: bool) -> tuple[list[float], list[float], dict[str, Any]]:
    """Train; return the loss of each step, the validation AP of each epoch, and running means."""
    torch.set_num_threads(1)
    module = SegmentationTraining(
        detector(as_published=as_published),
        budget=Budget(None),
        epochs=2,
        learning_rate=1e-4,  # Adam makes whole steps of what rounding leaves of a gradient of 0
        accumulate=1 if as_published else 2,
    )
    losses = Losses()
    fit(
        module,
        DataLoader(Numbers(), batch_size=5, collate_fn=parts),
        DataLoader(Numbers(), batch_size=4, collate_fn=parts),
        folder=folder,
        name="train",
        epochs=2,
        budget=module.budget,
        precision="32",
        callbacks=[losses],
        quiet=True,
    )
    means = {n: v.numpy() for n, v in module.state_dict().items() if "running_mean" in n}
    return losses.values, module.validation_ap, means


@pytest.fixture(scope="module")
def ranks() -> Iterator[RankGroup]:
    with rank_group(2) as group:
        yield group


@pytest.mark.timeout(300)
@pytest.mark.parametrize("as_published", [True, False])
def test_two_workers_have_the_loss_curve_of_one_process(
    ranks: RankGroup, tmp_path: Path, as_published: bool
):
    expected, precision, means = curve(tmp_path / "one", as_published=as_published)
    assert len(set(expected)) == 4
    for found in ranks(partial(curve, as_published=as_published), tmp_path / "two"):
        assert found[0] == pytest.approx(expected, rel=1e-6)
        assert found[1] == pytest.approx(precision, rel=1e-4)
        assert found[2].keys() == means.keys()
        for name, value in means.items():
            assert np.allclose(found[2][name], value, rtol=1e-4, atol=1e-9), name


def test_a_baseline_has_no_work_for_several_processes(tmp_path: Path):
    config = DetectionConfig.make(data=tmp_path / "absent", out=tmp_path / "run", model="btf")
    with pytest.raises(ConfigurationError, match=r"btf is fitted in steps of its own.*adnas_slim"):
        train(config, crew=StubCrew(2))
    assert not config.out.exists()


def test_one_gpu_is_not_shared_by_those_that_train_together(tmp_path: Path):
    config = DetectionConfig.make(
        data=tmp_path / "absent", out=tmp_path / "run", model="adnas_slim", device="cuda:1"
    )
    with pytest.raises(ConfigurationError, match="names one GPU"):
        train(config, crew=StubCrew(2))
    assert not config.out.exists()


def test_features_that_are_stored_are_trained_on_by_one_process():
    crew = StubCrew(2)
    frozen, trained = (
        cast(DetectionDataModule, SimpleNamespace(crew=crew, frozen_source=source))
        for source in (object(), None)
    )
    assert crew_of(frozen) is ALONE
    assert crew_of(trained) is crew

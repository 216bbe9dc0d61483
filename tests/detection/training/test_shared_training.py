"""A detector trained in two processes has the loss curve of one process.

In double precision: in single precision the gradients of one process already differ from these by
some per cent, because ReLU and pooling turn rounding into other choices.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader, Dataset

from chiasm.detection.config import DetectionConfig
from chiasm.detection.models.adnas import AdnasDetector, BranchSize, _from_scratch
from chiasm.detection.train import train
from chiasm.detection.training.segment import SegmentationTraining
from chiasm.errors import ConfigurationError
from chiasm.fusion.operations import OPERATIONS
from chiasm.runs.data_parallel import DataParallel, fit_in_parallel
from chiasm.samples import RGBDBatch
from chiasm.training.trainer import Budget
from stub_training import Losses

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


def curve(
    folder: Path, workers: int, *, as_published: bool
) -> tuple[list[float], SegmentationTraining, list[float]]:
    module = SegmentationTraining(
        detector(as_published=as_published),
        budget=Budget(None),
        epochs=2,
        learning_rate=1e-4,  # Adam makes whole steps of what rounding leaves of a gradient of 0
        accumulate=1 if as_published else 2,
    )
    losses = Losses()
    fit_in_parallel(
        module,
        DataLoader(Numbers(), batch_size=5, collate_fn=parts),
        DataLoader(Numbers(), batch_size=4, collate_fn=parts),
        parallel=DataParallel(workers),
        folder=folder,
        name="train",
        epochs=2,
        budget=module.budget,
        precision="32",
        callbacks=[losses],
        quiet=True,
    )
    return losses.values, module, torch.rand(3).tolist()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("as_published", [True, False])
def test_two_workers_have_the_loss_curve_of_one_process(tmp_path: Path, as_published: bool):
    expected, one, random = curve(tmp_path / "one", 1, as_published=as_published)
    found, two, random_after = curve(tmp_path / "two", 2, as_published=as_published)
    assert len(found) == 4 and len(set(found)) == 4
    assert found == pytest.approx(expected, rel=1e-6)
    assert two.validation_ap == pytest.approx(one.validation_ap, rel=1e-4)
    assert two.steps == one.steps == 4
    assert random_after == random
    norms = {type(m) for m in two.detector.modules() if isinstance(m, _BatchNorm)}
    assert norms == {nn.BatchNorm2d}
    for name, value in one.state_dict().items():
        if "running" in name:
            assert torch.allclose(two.state_dict()[name], value, rtol=1e-4), name


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("btf", "btf is fitted in steps of its own.*processes train: adnas_paper, adnas_slim"),
        ("adnas_light", "adnas_light trains on stored features.*adnas_paper, adnas_slim"),
    ],
)
def test_models_that_several_processes_do_not_train_are_refused(
    tmp_path: Path, model: str, sentence: str
):
    config = DetectionConfig.make(data=tmp_path / "absent", out=tmp_path / "run", model=model)
    with pytest.raises(ConfigurationError, match=f"{sentence}\\."):
        train(config, parallel=DataParallel(2))
    assert not config.out.exists()

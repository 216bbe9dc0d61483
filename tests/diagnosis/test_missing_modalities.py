"""Recordings that lack a modality: trained on, judged by what they have, corrupted likewise."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from chiasm.diagnosis.calibrate import calibrate_and_save
from chiasm.diagnosis.config import DiagnosisConfig
from chiasm.diagnosis.datamodule import DiagnosisDataModule, open_data
from chiasm.diagnosis.evaluate import evaluate
from chiasm.diagnosis.layers.contrastive import SupervisedContrast
from chiasm.diagnosis.predictor import DiagnosisPredictor
from chiasm.diagnosis.scoring import UNPAIRED, score_corrupted, score_recordings
from chiasm.diagnosis.train import train
from chiasm.diagnosis.training.contrast import ContrastTraining
from chiasm.samples import RecordingBatch
from chiasm.training.trainer import Budget

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> DiagnosisDataModule:
    """A run on recordings of which every fifth has no picture and every seventh no series."""
    folder = tmp_path_factory.mktemp("lacking")
    rng = np.random.default_rng(0)
    lines = ["image,series,kind,session"]
    for number in range(72):
        session = number // 4
        image = f"{number}.png" if number % 5 else ""
        series = f"{number}.npy" if number % 7 or not image else ""
        if image:
            picture = rng.integers(0, 255, (32, 32, 3)).astype(np.uint8)
            cv2.imwrite(str(folder / image), picture)
        if series:
            values = rng.integers(0, 20 * (1 + session % 3), (1, 1280))
            np.save(folder / series, values.astype(np.uint8))
        lines.append(f"{image},{series},{('normal', 'noise', 'corona')[session % 3]},s{session}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    config = DiagnosisConfig.make(
        data=folder / "table.csv",
        out=folder / "run",
        cache=folder / "cache",
        preset="quick",
        image_size=16,
        segment=128,
        fold=1,
        batch=8,
        epochs=1,
        pretrain_epochs=1,
        shares=(0.5, 0.2, 0.3),
    )
    data = open_data(config)
    train(config, data=data)
    return data


def test_each_recording_is_judged_by_what_it_has(trained: DiagnosisDataModule):
    model, refs = DiagnosisPredictor.load(trained.config.out), trained.split.test
    own = {"image": 0.7, "series": 1.3, "image+series": 2.1}
    model = DiagnosisPredictor(
        model.network, model.contract.model_copy(update={"temperatures": own})
    )
    scored = score_recordings(model, trained.store, refs)
    pictures = [trained.store.has_image(ref) for ref in refs]
    assert scored.lacking["image"] == pictures.count(False) > 0 < scored.lacking["series"]
    assert scored.temperature == own["image+series"]
    for place, ref in enumerate(refs):
        said = model.predict(trained.store.load(ref))
        chances = list(said.probabilities.values())
        np.testing.assert_allclose(scored.probabilities[place], chances, rtol=1e-6)
        assert scored.uncertainty[place] == pytest.approx(said.uncertainty)
        assert scored.conflict[place] == pytest.approx(said.conflict, nan_ok=True)
    assert np.isfinite(scored.embeddings).all()


def test_corruptions_are_of_all_recordings(trained: DiagnosisDataModule):
    model, refs = DiagnosisPredictor.load(trained.config.out), trained.split.test
    found, notes = score_corrupted(model, trained.store, refs)
    plain = score_recordings(model, trained.store, refs)
    assert not notes and all(len(one) == len(refs) for one in found.values())
    moved = found["picture of another recording"].logits != plain.logits
    both = [trained.store.has_image(ref) and trained.store.counts(ref) is not None for ref in refs]
    assert moved.any(axis=1).tolist() == both  # nothing is put where nothing was
    whole = refs[both.index(True)]
    _, notes = score_corrupted(model, trained.store, [whole])
    assert notes == (UNPAIRED,)  # one class alone has no other picture


def test_a_report_tells_how_many_lack_what(trained: DiagnosisDataModule):
    config = trained.config
    metrics = evaluate(config.out, data=config.data, most_corrupted=0)
    lacking = metrics["counts"]["lacking"]
    assert set(lacking) == {"image", "series"} and metrics["gap"]["before"] is not None
    page = (config.out / "report/report.html").read_text()
    assert f"{lacking['image']} recordings have no picture and were diagnosed without it" in page


def test_a_model_is_kept_where_no_held_out_recording_has_everything(trained: DiagnosisDataModule):
    alone = tuple(ref for ref in trained.split.validation if not trained.store.has_image(ref))
    split = replace(trained.split, validation=alone)
    config = trained.config.model_copy(update={"out": trained.config.out.parent / "alone"})
    network = DiagnosisPredictor.load(trained.config.out).network
    assert 0 <= calibrate_and_save(network, replace(trained, split=split, config=config)) <= 1


class _Given(torch.nn.Module):
    """Vectors that were made before: two of a recording that has all, one of the others."""

    def forward(self, batch: RecordingBatch) -> RecordingBatch:
        return batch

    def project(self, batch: RecordingBatch, parts: object) -> torch.Tensor:
        there = [one for one in (batch.image, batch.series) if one is not None]
        return torch.nn.functional.normalize(torch.stack(there, dim=1), dim=2)


def test_held_out_contrast_is_over_all_vectors_however_many_a_recording_has(
    monkeypatch: pytest.MonkeyPatch,
):
    make = torch.Generator().manual_seed(0)
    labels = torch.arange(6) % 3
    image, series = torch.randn((2, 6, 4), generator=make)
    logged: dict[str, float] = {}
    module = ContrastTraining(_Given(), budget=Budget(None), epochs=1, learning_rate=1e-3)  # type: ignore[arg-type]
    monkeypatch.setattr(module, "log", lambda name, value, **_: logged.update({name: float(value)}))

    def batch(places: slice, *, picture: bool = True) -> tuple[RecordingBatch]:
        shown = image[places] if picture else None
        return (RecordingBatch(image=shown, series=series[places], label=labels[places]),)

    def held_out(*batches: tuple[RecordingBatch]) -> float:
        for number, one in enumerate(batches):
            module.validation_step(one, number)
        module.on_validation_epoch_end()
        return logged["validation_contrast"]

    both = torch.stack([image, series], dim=1)
    unit = torch.nn.functional.normalize(both, dim=2)
    whole = float(SupervisedContrast(temperature=0.5)(unit, labels))
    assert held_out(batch(slice(0, 4)), batch(slice(4, 6))) == pytest.approx(whole)
    lacking = held_out(batch(slice(0, 4)), batch(slice(4, 6), picture=False))
    rows = torch.cat([unit[:4].flatten(0, 1), unit[4:, 1]])
    numbers = torch.cat([labels[:4].repeat_interleave(2), labels[4:]])
    assert lacking == pytest.approx(float(SupervisedContrast()(rows[:, None], numbers)))

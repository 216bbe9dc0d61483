"""Trained and exported models of either wing: which wing, which files, and loaded as functions."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from chiasm.api.configuration import register_models
from chiasm.detection.products.models import (
    PRODUCTS,
    ProductModels,
    folder_of_product,
    read_products,
)
from chiasm.errors import ArtifactError, ConfigurationError
from chiasm.runs.extras import names_extra

if TYPE_CHECKING:
    from chiasm.detection.predictor import DetectionPredictor
    from chiasm.diagnosis.predictor import DiagnosisPredictor
    from chiasm.runtime.deployment import Deployment
    from chiasm.runtime.detection import DetectionRuntime
    from chiasm.runtime.diagnosis import DiagnosisRuntime

    Model: TypeAlias = (
        DetectionPredictor
        | DiagnosisPredictor
        | DetectionRuntime
        | DiagnosisRuntime
        | ProductModels
    )


@names_extra
def load(folder: Path | str, *, product: str | None = None, device: str = "auto") -> Model:
    """Load a trained or an exported model as a function.

    ``model(rgb, xyz)`` returns a ``Verdict``, ``model(image, series)`` a ``Diagnosis``; every model
    has ``predict(sample)`` and ``predict_all(samples)``, too.

    Args:
        folder: of a run, of a model, or one that ``export`` wrote.
        product: of a model of several, the one that is loaded alone; None loads all.
        device: that predicts: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``. An exported model
            runs on the processor.

    Raises:
        ConfigurationError: there is no such device, or an exported model cannot run on it.
        ArtifactError: a file is missing, damaged or of another version.
    """
    folder = folder_of_product(Path(folder), product)
    if read_products(folder):
        return ProductModels.load(folder, partial(load, device=device))
    if is_exported(folder):
        return _load_exported(folder, device)
    if wing(folder) == "classifier":
        from chiasm.diagnosis.predictor import DiagnosisPredictor

        register_models()
        return DiagnosisPredictor.load(folder, device=device)
    from chiasm.detection.predictor import DetectionPredictor

    return DetectionPredictor.load(folder, device=device)


@names_extra
def export(run: Path | str, out: Path | str, **options: Any) -> Deployment | dict[str, Deployment]:
    """Export a run as a folder that runs without PyTorch, and prove that its scores are the same.

    Args:
        run: folder of a run.
        out: folder to write.
        options: ``to`` (``"openvino"`` or ``"onnx"``), ``precision`` (``"fp32"``, ``"bf16"``,
            ``"int8"``), ``data`` (where the run's data lie now), ``memory_entries`` and
            ``search_channels`` (of a memory of normals: smaller is faster), ``force`` (replace an
            exported model that ``out`` holds already).

    Raises:
        ArtifactError: the exported model would differ from the run by more than allowed, or ``out``
            is taken.
        ConfigurationError: the method has no graph, or an option is wrong.
    """
    from chiasm.deploy.export import export as write

    register_models()
    return write(Path(run), Path(out), **options)


def wing(folder: Path | str) -> str:
    """Return ``"detector"`` or ``"classifier"``; the former where no contract tells."""
    from chiasm.runs.model_folder import CONTRACT, model_folder, wing_of

    try:
        return wing_of(json.loads((model_folder(folder) / CONTRACT).read_text()))
    except (OSError, json.JSONDecodeError):
        return "detector"  # whose loading then says what is wrong with the folder


def identity(folder: Path) -> tuple[str, tuple[Path, ...]]:
    """Return the wing of a trained or exported model, and the files that tell it from others."""
    if not folder.is_dir():  # before what a station has not installed is asked for
        raise ArtifactError(
            f"{folder} is no folder: one of 'chiasm train' or 'chiasm export' was expected. Check "
            "the path.",
            see="no-model",
        )
    if products := read_products(folder):
        described = [identity(folder / product.folder)[1] for product in products]
        return "detector", (folder / PRODUCTS, *(path for paths in described for path in paths))
    if is_exported(folder):
        from chiasm.runtime.deployment import DEPLOYMENT, read_deployment

        return read_deployment(folder).wing, (folder / DEPLOYMENT,)
    from chiasm.runs.model_folder import CONTRACT, GENOTYPE, model_folder

    inner = model_folder(folder)
    if not (inner / CONTRACT).is_file():
        raise ArtifactError(
            f"{folder} holds no model: a folder of 'chiasm train' or 'chiasm export' was expected.",
            see="no-model",
        )
    # Early contracts leave the lamp to the settings of the run.
    named = (inner / CONTRACT, inner / GENOTYPE, inner.parent / "config.yaml")
    return wing(folder), tuple(path for path in named if path.is_file())


def load_for_worker(folder: Path, threads: int, *, device: str) -> Model:
    """Load a model with a share of the processors, on a device."""
    if read_products(folder):
        return ProductModels.load(folder, partial(load_for_worker, threads=threads, device=device))
    if is_exported(folder):
        return _load_exported(folder, device, threads=threads)
    import torch

    torch.set_num_threads(threads)
    return load(folder, device=device)


def _load_exported(folder: Path, device: str, *, threads: int | None = None) -> Model:
    from chiasm.runtime import load as load_exported

    if device not in ("auto", "cpu"):
        raise ConfigurationError(
            f"{folder} holds an exported model, which runs on the processor; leave out "
            f"device={device}, or load the run that it was exported from."
        )
    return load_exported(folder, threads=threads)


def is_exported(folder: Path) -> bool:
    """Return whether a folder is one that ``export`` wrote."""
    from chiasm.runtime.deployment import DEPLOYMENT

    return (folder / DEPLOYMENT).is_file()


def refuse(run: Path | str, does: str, **arguments: Any) -> None:
    """Raise ``ConfigurationError`` for arguments that belong to the other wing."""
    given = [name for name, value in arguments.items() if value is not None]
    if given:
        raise ConfigurationError(
            f"{run} {does}; {' and '.join(given)} are for models of the other kind. Leave them out."
        )

"""``chiasm export`` as a function, for either wing."""

from __future__ import annotations

import json
from pathlib import Path

from chiasm.deploy.whole_folder import check_free
from chiasm.detection.products.models import read_products
from chiasm.errors import ArtifactError, ConfigurationError
from chiasm.runs.model_folder import CONTRACT, model_folder, wing_of
from chiasm.runtime.deployment import GRAPHS, Deployment

PRECISIONS = ("fp32", "bf16", "int8")


def export(
    run: Path | str,
    out: Path | str,
    *,
    to: str = "openvino",
    precision: str = "fp32",
    data: Path | None = None,
    memory_entries: int | None = None,
    search_channels: int | None = None,
    force: bool = False,
) -> Deployment | dict[str, Deployment]:
    """Write a trained model as a folder that runs without torch.

    Returns the description of the exported model; of several products, one by product.

    Args:
        run: the run's folder, written by training.
        out: folder to write.
        to: ``"openvino"`` or ``"onnx"``.
        precision: ``"fp32"``, or with OpenVINO ``"bf16"`` or ``"int8"``.
        data: present folder of the run's data; None takes the one that the run names.
        memory_entries: of a detector, descriptors of normals to keep for each modality.
        search_channels: of a detector, principal channels for the search of nearest normals.
        force: replace an exported model that ``out`` holds already.

    Raises:
        ArtifactError: the exported model differs from the trained one beyond the limits, or ``out``
            is taken.
        ConfigurationError: an option does not fit the model or another option.
    """
    if to not in GRAPHS:
        raise ConfigurationError(f"There is no format {to!r}; choose one of: {', '.join(GRAPHS)}.")
    if precision not in PRECISIONS:
        raise ConfigurationError(
            f"There is no precision {precision!r}; choose one of: {', '.join(PRECISIONS)}."
        )
    if to == "onnx" and precision != "fp32":
        raise ConfigurationError(
            f"ONNX is written in fp32 only; for {precision} use --to openvino, which runs on "
            "the same processors."
        )
    if memory_entries is not None and memory_entries < 8:
        raise ConfigurationError(
            f"A memory of {memory_entries} descriptors is too small; keep at least 8."
        )
    if search_channels is not None and search_channels < 8:
        raise ConfigurationError(
            f"{search_channels} channels are too few to search in; take at least 8."
        )
    folder = Path(run)
    if read_products(folder):
        check_free(Path(out), force=force)
        from chiasm.deploy.products import export_products

        return export_products(
            folder,
            Path(out),
            to=to,
            precision=precision,
            data=data,
            memory_entries=memory_entries,
            search_channels=search_channels,
            force=force,
        )
    contract = model_folder(folder) / CONTRACT
    if not contract.is_file():
        raise ArtifactError(
            f"{folder} is not a run's folder: it has no {CONTRACT}. Give the folder that "
            "'chiasm train' wrote.",
            see="no-model",
        )
    check_free(Path(out), force=force)  # before the minutes that an export takes
    if wing_of(json.loads(contract.read_text())) == "classifier":
        if memory_entries is not None or search_channels is not None:
            raise ConfigurationError(
                "A classifier has no memory of normals; leave out --memory-entries and "
                "--search-channels."
            )
        from chiasm.deploy.diagnosis import export_diagnosis

        return export_diagnosis(
            folder, Path(out), to=to, precision=precision, data=data, force=force
        )
    from chiasm.deploy.detection import export_detection

    return export_detection(
        folder,
        Path(out),
        to=to,
        precision=precision,
        data=data,
        memory_entries=memory_entries,
        search_channels=search_channels,
        force=force,
    )

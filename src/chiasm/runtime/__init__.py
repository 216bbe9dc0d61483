"""Run exported models without torch, by OpenVINO or ONNX Runtime.

::

    model = chiasm.runtime.load("exported")
    verdict = model(rgb, xyz)  # arrays (H, W, 3); xyz in metres, 0 where missing
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from chiasm.detection.products.models import ProductModels, read_products
from chiasm.runtime.deployment import read_deployment
from chiasm.runtime.detection import DetectionRuntime
from chiasm.runtime.engine import processor_threads

if TYPE_CHECKING:
    from chiasm.runtime.diagnosis import DiagnosisRuntime

__all__ = ["DetectionRuntime", "load"]


def load(
    folder: str | Path, *, threads: int | None = None
) -> DetectionRuntime | DiagnosisRuntime | ProductModels:
    """Open an exported model.

    Args:
        folder: written by ``chiasm export``.
        threads: processor threads; None takes all that this process may use.

    Raises:
        ArtifactError: a file is missing or altered.
        ConfigurationError: the library for its graph is not installed.
    """
    # A link may be changed to another model during the read: all files must come from one folder.
    folder = Path(folder).resolve()
    if read_products(folder):
        return ProductModels.load(folder, partial(load, threads=threads))
    deployment = read_deployment(folder)
    count = threads or processor_threads()
    if deployment.wing == "classifier":
        from chiasm.runtime.diagnosis import DiagnosisRuntime

        return DiagnosisRuntime(folder, deployment, threads=count)
    return DetectionRuntime(folder, deployment, threads=count)

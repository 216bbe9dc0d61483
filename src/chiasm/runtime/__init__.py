"""Run exported models without torch: numpy, OpenCV and OpenVINO or ONNX Runtime are enough.

::

    model = chiasm.runtime.load("exported")
    verdict = model(rgb, xyz)  # arrays (H, W, 3); xyz in metres, 0 where missing
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from chiasm.runtime.deployment import read_deployment
from chiasm.runtime.detection import DetectionRuntime
from chiasm.runtime.engine import processor_threads

if TYPE_CHECKING:
    from chiasm.runtime.diagnosis import DiagnosisRuntime

__all__ = ["DetectionRuntime", "load"]


def load(folder: str | Path, *, threads: int | None = None) -> DetectionRuntime | DiagnosisRuntime:
    """Open an exported model.

    Args:
        folder: that ``chiasm export`` wrote.
        threads: processor threads; None takes all that this process may use.

    Raises:
        ArtifactError: a file is missing or altered.
        ConfigurationError: what runs such a graph is not installed.
    """
    # A link may be turned to another model while this one is read: all of it comes from one place.
    folder = Path(folder).resolve()
    deployment = read_deployment(folder)
    count = threads or processor_threads()
    if deployment.wing == "classifier":
        from chiasm.runtime.diagnosis import DiagnosisRuntime

        return DiagnosisRuntime(folder, deployment, threads=count)
    return DetectionRuntime(folder, deployment, threads=count)

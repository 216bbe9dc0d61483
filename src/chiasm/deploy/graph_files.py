"""The graph's files: written from ONNX, quantised by NNCF, their calibration put in last."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from chiasm.errors import ConfigurationError

CALIBRATION = "calibration"  # name of the constant
# Operations that stay in float32 when the rest becomes int8: what they make is a decision.
_EXACT = ("TopK", "GatherElements", "Gather", "ReduceSum", "Sqrt", "SoftPlus")


def set_calibration(path: Path, scores: Sequence[float]) -> None:
    """Put calibration scores, as many as there were, into an ONNX file or an OpenVINO model."""
    values = np.asarray([scores], dtype=np.float32)
    if path.suffix == ".onnx":
        model = onnx.load(str(path))
        (tensor,) = (t for t in model.graph.initializer if _is_calibration(t.name))
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        onnx.save(model, str(path))
        return
    import openvino

    network = openvino.Core().read_model(path)
    set_constant(network, values)
    _save(network, path)


def set_constant(network: Any, values: np.ndarray) -> None:
    """Put calibration scores ``(1, n)`` into an OpenVINO model, in place."""
    from openvino import opset13

    (old,) = (
        node
        for node in network.get_ops()
        if node.get_type_name() == "Constant" and _is_calibration(node.get_friendly_name())
    )
    new = opset13.constant(values, dtype=np.float32)
    new.set_friendly_name(old.get_friendly_name())
    old.output(0).replace(new.output(0))


def write_openvino(
    source: Path,
    path: Path,
    *,
    quantised_on: Iterable[dict[str, np.ndarray]] | None = None,
    keep: Callable[[str], bool] = lambda name: False,
) -> None:
    """Write an OpenVINO model from an ONNX file.

    Args:
        source: the ONNX file.
        path: of the model, ``.xml``; weights lie beside it.
        quantised_on: inputs of the graph, to quantise it to int8; None leaves float32.
        keep: names of operations that stay in float32.
    """
    import openvino

    network = openvino.Core().read_model(source)
    if quantised_on is not None:
        network = _quantised(network, list(quantised_on), keep)
    _save(network, path)


def _quantised(network: Any, samples: list[dict[str, np.ndarray]], keep: Any) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the library about its own dependencies
            import nncf
    except ImportError as error:
        raise ConfigurationError(
            "int8 needs nncf, which is not installed: pip install nncf, or take --precision fp32."
        ) from error
    logging.getLogger("nncf").setLevel(logging.ERROR)
    names = [node.get_friendly_name() for node in network.get_ops()]
    ignored = nncf.IgnoredScope(
        names=[name for name in names if keep(name)], types=[], validate=False
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nncf.quantize(
            network,
            nncf.Dataset(samples),
            subset_size=len(samples),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=ignored,
        )


def _save(network: Any, path: Path) -> None:
    import openvino

    # Through another name: the weights of a model that was read from here are still mapped.
    part = path.with_name(f".part.{path.name}")
    openvino.save_model(network, part, compress_to_fp16=False)
    del network
    part.with_suffix(".bin").replace(path.with_suffix(".bin"))
    part.replace(path)


def _is_calibration(name: str) -> bool:
    return name.split(".")[-1] == CALIBRATION or name == CALIBRATION

"""The graph's files: written from ONNX, quantised by NNCF, with calibration scores set last."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from chiasm.errors import ArtifactError, ConfigurationError
from chiasm.runtime.deployment import Deployment

CALIBRATION = "calibration"  # name of the constant

# Fields of a deployment that its ONNX file states, too.
_DESCRIBED = (
    *("wing", "method", "precision", "modalities", "inputs", "outputs"),
    *("preparation", "geometry", "distance", "recording", "kinds"),
)

# Only products become int8. Distances, score rule and decision stay float32: their constants are of
# very different sizes and would be lost.
_PRODUCTS = ("Convolution", "GroupConvolution", "MatMul")

_FEWEST = 8  # output channels of a quantised product; the smoothing of a map has one

# Channels of a picture. Its products stay float32: eight bits are too few for height and slopes, on
# which all later layers depend.
_PICTURE = 3


def set_calibration(path: Path, scores: Sequence[float]) -> None:
    """Replace the calibration scores in an ONNX file or an OpenVINO model by as many others."""
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
    """Replace the calibration scores ``(1, n)`` of an OpenVINO model, in place."""
    from openvino import opset13

    (old,) = (
        node
        for node in network.get_ops()
        if node.get_type_name() == "Constant" and _is_calibration(node.get_friendly_name())
    )
    new = opset13.constant(values, dtype=np.float32)
    new.set_friendly_name(old.get_friendly_name())
    old.output(0).replace(new.output(0))


def describe_graph(path: Path, deployment: Deployment) -> None:
    """Write what a graph is into an ONNX file, as its metadata ``chiasm.NAME`` in JSON.

    For runtimes of other languages: ports, preparation, classes. The decision is in none of it: a
    recalibration changes ``deployment.json`` alone.
    """
    content = asdict(deployment)
    facts = {f"chiasm.{name}": json.dumps(content[name]) for name in _DESCRIBED if content[name]}
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, facts)
    onnx.save(model, str(path))


def write_openvino(
    source: Path,
    path: Path,
    *,
    quantised_on: Iterable[dict[str, np.ndarray]] | None = None,
) -> None:
    """Write an OpenVINO model from an ONNX file.

    Args:
        source: the ONNX file.
        path: of the model, ``.xml``; its weights are written beside it.
        quantised_on: inputs of the graph, to quantise it to int8; None leaves float32.
    """
    import openvino
    from openvino.passes import ConstantFolding, Manager

    network = openvino.Core().read_model(source)
    # Fold weights that are computed from constants: the quantiser would take the wrong axis for
    # their channels, and their products would stay float32.
    passes = Manager()
    passes.register_pass(ConstantFolding())
    passes.run_passes(network)
    if quantised_on is not None:
        network = _quantised(network, list(quantised_on))
    _save(network, path)


def _quantised(network: Any, samples: list[dict[str, np.ndarray]]) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the library's own dependencies
            import nncf
    except ImportError as error:
        raise ConfigurationError(
            "int8 needs nncf, which is not installed: pip install nncf, or use --precision fp32."
        ) from error
    logging.getLogger("nncf").setLevel(logging.ERROR)
    unquantised = [
        node.get_friendly_name()
        for node in network.get_ops()
        if node.get_type_name() not in ("Parameter", "Constant", "Result")
        and not _is_quantised(node)
    ]
    ignored = nncf.IgnoredScope(names=unquantised, validate=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nncf.quantize(
            network,
            nncf.Dataset(samples),
            subset_size=len(samples),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=ignored,
        )


def _is_quantised(node: Any) -> bool:
    if node.get_type_name() not in _PRODUCTS:
        return False
    weights = node.input_value(1)
    if weights.get_node().get_type_name() != "Constant":
        return False  # a product of two maps
    if node.get_type_name() == "MatMul":
        # Products of tokens by weights, but not the matrices that resize a map.
        return len(node.output(0).get_partial_shape()) == 3
    shape = weights.get_shape()
    return node.get_type_name() == "GroupConvolution" or (
        shape[0] >= _FEWEST and shape[1] > _PICTURE
    )


def _save(network: Any, path: Path) -> None:
    import openvino

    # Under another name first: the weights may still be mapped from the old file.
    temporary = path.with_name(f".part.{path.name}")
    openvino.save_model(network, temporary, compress_to_fp16=False)
    del network
    temporary.with_suffix(".bin").replace(path.with_suffix(".bin"))
    temporary.replace(path)


def _is_calibration(name: str) -> bool:
    return name.split(".")[-1] == CALIBRATION or name == CALIBRATION


OPSET = 20


def write_onnx(
    module: nn.Module,
    example: Sequence[Tensor],
    path: Path,
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    dynamic: Sequence[Mapping[int, Any]],
) -> None:
    """Write a module as ONNX, checked by ONNX's own checker.

    Args:
        module: in evaluation mode.
        example: one tensor for each input, of length two or more along each dynamic axis.
        path: of the file, which includes the weights.
        inputs, outputs: names, in order.
        dynamic: for each input, its axes of any length, each with a ``torch.export.Dim``.

    Raises:
        ArtifactError: a batch norm was not folded, or a dynamic axis has a fixed length.
    """
    logging.getLogger("torch.onnx").setLevel(
        logging.ERROR
    )  # its warnings that torchvision is missing
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # about the exporter itself
        program = torch.onnx.export(
            module,
            tuple(example),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=(tuple(dict(axes) for axes in dynamic),),
            opset_version=OPSET,
            dynamo=True,
            optimize=True,
            verbose=False,
        )
    assert program is not None
    program.save(str(path), external_data=False)
    graph = onnx.load(str(path))
    for node in graph.graph.node:
        del node.metadata_props[:]  # traces of the source code, with paths of this machine
    onnx.save(graph, str(path))
    onnx.checker.check_model(graph, full_check=True)
    for port, axes in zip(graph.graph.input, dynamic):
        # The exporter fixes an axis silently if the module's code does.
        fixed = [axis for axis in axes if port.type.tensor_type.shape.dim[axis].dim_value]
        if fixed:
            raise ArtifactError(
                f"The input {port.name} of {path} has a fixed length along {fixed}."
            )
    if "BatchNormalization" in operations(graph):
        raise ArtifactError(f"{path} still holds batch norms, which should have been folded.")


def operations(graph: Any) -> set[str]:
    """Return the operation types of an ONNX model."""
    return {node.op_type for node in graph.graph.node}

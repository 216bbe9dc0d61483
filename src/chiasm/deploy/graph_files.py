"""The graph's files: written from ONNX, quantised by NNCF, their calibration put in last."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from chiasm.errors import ArtifactError, ConfigurationError

CALIBRATION = "calibration"  # name of the constant

# Products become int8; what lies between them, distances, the score rule and the decision among
# it, stays float32: quantised, its constants of very different sizes would be lost.
_PRODUCTS = ("Convolution", "GroupConvolution", "MatMul")

_FEWEST = 8  # output channels of a product that is worth it; the smoothing of a map has one

# Channels of a picture. The products that see it stay exact: eight bits are too few for height and
# slopes, and everything after builds on them.
_PICTURE = 3


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
) -> None:
    """Write an OpenVINO model from an ONNX file.

    Args:
        source: the ONNX file.
        path: of the model, ``.xml``; weights lie beside it.
        quantised_on: inputs of the graph, to quantise it to int8; None leaves float32.
    """
    import openvino
    from openvino.passes import ConstantFolding, Manager

    network = openvino.Core().read_model(source)
    # Shapes and weights that are computed from constants alone; the quantiser would take the wrong
    # axis of such weights for the channels, and their products would stay in float32.
    tidy = Manager()
    tidy.register_pass(ConstantFolding())
    tidy.run_passes(network)
    if quantised_on is not None:
        network = _quantised(network, list(quantised_on))
    _save(network, path)


def _quantised(network: Any, samples: list[dict[str, np.ndarray]]) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the library about its own dependencies
            import nncf
    except ImportError as error:
        raise ConfigurationError(
            "int8 needs nncf, which is not installed: pip install nncf, or take --precision fp32."
        ) from error
    logging.getLogger("nncf").setLevel(logging.ERROR)
    exact = [
        node.get_friendly_name()
        for node in network.get_ops()
        if node.get_type_name() not in ("Parameter", "Constant", "Result")
        and not _worth_quantising(node)
    ]
    ignored = nncf.IgnoredScope(names=exact, validate=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nncf.quantize(
            network,
            nncf.Dataset(samples),
            subset_size=len(samples),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=ignored,
        )


def _worth_quantising(node: Any) -> bool:
    if node.get_type_name() not in _PRODUCTS:
        return False
    weights = node.input_value(1)
    if weights.get_node().get_type_name() != "Constant":
        return False  # of two maps
    if node.get_type_name() == "MatMul":
        # Of tokens by weights; matrices that bring a map to size are as exact as the map.
        return len(node.output(0).get_partial_shape()) == 3
    shape = weights.get_shape()
    return node.get_type_name() == "GroupConvolution" or (
        shape[0] >= _FEWEST and shape[1] > _PICTURE
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
        example: one tensor for each input, at least two along each dynamic axis.
        path: of the file; weights are inside it.
        inputs, outputs: names, in order.
        dynamic: for each input, its axes that may have any length, with a ``torch.export.Dim``.

    Raises:
        ArtifactError: a batch norm is left, which should have been folded, or an axis came out
            with one length.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter about itself
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
        del node.metadata_props[:]  # of the code that it came from, with paths of this machine
    onnx.save(graph, str(path))
    onnx.checker.check_model(graph, full_check=True)
    for port, axes in zip(graph.graph.input, dynamic):
        # The exporter gives up an axis without a word where the module's code fixes it.
        fixed = [axis for axis in axes if port.type.tensor_type.shape.dim[axis].dim_value]
        if fixed:
            raise ArtifactError(
                f"The input {port.name} of {path} has a fixed length along {fixed}."
            )
    if "BatchNormalization" in operations(graph):
        raise ArtifactError(f"{path} still holds batch norms, which an exported graph must not.")


def operations(graph: Any) -> set[str]:
    """Types of the operations of an ONNX model."""
    return {node.op_type for node in graph.graph.node}

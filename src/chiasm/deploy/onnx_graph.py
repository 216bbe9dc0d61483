"""From a module to a file: ONNX, and OpenVINO made from it, so that both hold the same graph."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from chiasm.errors import ArtifactError

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

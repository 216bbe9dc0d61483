"""What runs a graph: OpenVINO or ONNX Runtime behind one call."""

from __future__ import annotations

import importlib
import os
import queue
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from chiasm.errors import ArtifactError, ConfigurationError

Arrays = Mapping[str, NDArray[Any]]
Precision = Literal["fp32", "bf16", "int8"]


class Engine(Protocol):
    """A compiled graph; may be called by several threads at once."""

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Outputs by name."""
        ...


def processor_threads() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_engine(
    path: Path, *, threads: int, streams: int = 1, precision: str = "fp32", batch: int | None = None
) -> Engine:
    """Compile a graph.

    Args:
        path: ``model.xml`` or ``model.onnx``.
        threads: processor threads in all.
        streams: runs that go on side by side, each on its share of the threads.
        precision: in which products are calculated; ``"int8"`` is part of the graph itself.
        batch: fixed length of the first axis; None leaves it open.

    Raises:
        ConfigurationError: what runs such a graph is not installed.
        ArtifactError: the graph cannot be read.
    """
    if path.suffix == ".xml":
        return OpenVinoEngine(
            path, threads=threads, streams=streams, precision=precision, batch=batch
        )
    return OnnxEngine(path, threads=max(1, threads // streams))


class OpenVinoEngine:
    """A graph compiled by OpenVINO for the processor; see ``open_engine``."""

    def __init__(
        self, path: Path, *, threads: int, streams: int, precision: str, batch: int | None
    ) -> None:
        openvino = _library("openvino", "openvino")
        try:
            model = openvino.Core().read_model(path)
            if batch is not None:
                shapes = {}
                for port in model.inputs:
                    shape = port.partial_shape
                    shape[0] = batch
                    shapes[port.any_name] = shape
                model.reshape(shapes)
            compiled = openvino.Core().compile_model(
                model,
                "CPU",
                {
                    "INFERENCE_NUM_THREADS": threads,
                    "NUM_STREAMS": streams,
                    "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
                },
            )
        except RuntimeError as error:
            raise ArtifactError(f"OpenVINO cannot run {path}: {error}") from error
        self._names = [port.any_name for port in compiled.outputs]
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(streams):
            self._free.put(compiled.create_infer_request())

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Outputs by name; waits where all streams are busy."""
        request = self._free.get()
        try:
            request.infer(dict(inputs), share_inputs=True)
            return {name: request.get_tensor(name).data.copy() for name in self._names}
        finally:
            self._free.put(request)


class OnnxEngine:
    """A graph run by ONNX Runtime on the processor; see ``open_engine``."""

    def __init__(self, path: Path, *, threads: int) -> None:
        runtime = _library("onnxruntime", "onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that spin while they wait take the processor from the preparation of parts.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = runtime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's own exceptions have no common ancestor
            raise ArtifactError(f"ONNX Runtime cannot run {path}: {error}") from error
        self._names = [port.name for port in self._session.get_outputs()]

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Outputs by name."""
        found = self._session.run(self._names, dict(inputs))
        return {name: np.asarray(value) for name, value in zip(self._names, found)}


def _library(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigurationError(
            f"This model needs {package}, which is not installed: pip install {package}."
        ) from error

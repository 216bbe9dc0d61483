"""Graphs compiled by OpenVINO or ONNX Runtime, behind one interface."""

from __future__ import annotations

import importlib
import importlib.util
import os
import queue
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from chiasm.errors import ArtifactError, ConfigurationError

T = TypeVar("T")
Arrays = Mapping[str, NDArray[Any]]
Precision = Literal["fp32", "bf16", "int8"]

# Suffix of a graph to its library, and the extra that installs it.
_LIBRARIES = {".xml": ("openvino", "runtime"), ".onnx": ("onnxruntime", "runtime-onnx")}

# Added to the nice value of a graph's threads; with 5, the processors idle twice as long.
_NICENESS = 10


class Engine(Protocol):
    """A compiled graph; threads may share it."""

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Return the outputs by name."""
        ...


def processor_threads() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_engine(
    path: Path,
    *,
    threads: int,
    streams: int = 1,
    precision: str = "fp32",
    batch: int | None = None,
    generated: bool = True,
) -> Engine:
    """Compile a graph.

    Args:
        path: ``model.xml`` or ``model.onnx``.
        threads: processor threads in all.
        streams: concurrent runs, each on its share of the threads.
        precision: of products; ``"int8"`` is part of the graph itself.
        batch: fixed length of the first axis; None leaves it open.
        generated: whether OpenVINO may generate code for subgraphs ("snippets"). Of attention over
            32 tokens that code is wrong by up to 1.5 of a logit (OpenVINO 2026.4.1, float32), so
            that classifiers do without.

    Raises:
        ConfigurationError: the library for such a graph is not installed.
        ArtifactError: the graph cannot be read.
    """
    if path.suffix == ".xml":
        return OpenVinoEngine(
            path,
            threads=threads,
            streams=streams,
            precision=precision,
            batch=batch,
            generated=generated,
        )
    return OnnxEngine(path, threads=max(1, threads // streams))


class OpenVinoEngine:
    """A graph compiled by OpenVINO for the processor; see ``open_engine``."""

    def __init__(
        self,
        path: Path,
        *,
        threads: int,
        streams: int,
        precision: str,
        batch: int | None,
        generated: bool,
    ) -> None:
        openvino = _library(path)
        try:
            model = openvino.Core().read_model(path)
            if batch is not None:
                shapes = {}
                for port in model.inputs:
                    shape = port.partial_shape
                    shape[0] = batch
                    shapes[port.any_name] = shape
                model.reshape(shapes)
            settings = {
                "INFERENCE_NUM_THREADS": threads,
                "NUM_STREAMS": streams,
                "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            } | ({} if generated else {"SNIPPETS_MODE": "DISABLE"})
            # The caller of a single stream on all threads only waits: no thread needs priority.
            start = partial(_compile, openvino.Core(), model, settings, requests=2 * streams)
            compiled, requests = _at_low_priority(start) if streams == threads else start()
        except RuntimeError as error:
            raise ArtifactError(f"OpenVINO cannot run {path}: {error}") from error
        self._names = [port.any_name for port in compiled.outputs]
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for request in requests:
            self._free.put(request)

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Return the outputs by name; waits if all streams are busy and as many runs wait."""
        request = self._free.get()
        try:
            request.infer(dict(inputs), share_inputs=True)
            return {name: request.get_tensor(name).data.copy() for name in self._names}
        finally:
            self._free.put(request)


class OnnxEngine:
    """A graph run by ONNX Runtime on the processor; see ``open_engine``."""

    def __init__(self, path: Path, *, threads: int) -> None:
        runtime = _library(path)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that spin while they wait keep the processor from the preparation of parts.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = runtime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's exceptions have no common base class
            raise ArtifactError(f"ONNX Runtime cannot run {path}: {error}") from error
        self._names = [port.name for port in self._session.get_outputs()]

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Return the outputs by name."""
        outputs = self._session.run(self._names, dict(inputs))
        return {name: np.asarray(value) for name, value in zip(self._names, outputs)}


def _compile(core: Any, model: Any, settings: dict[str, Any], *, requests: int) -> Any:
    """Return a compiled graph and requests to it.

    More requests than streams, so that a stream always finds a next run: a run ends only when
    Python's interpreter is free to notice it.
    """
    compiled = core.compile_model(model, "CPU", settings)
    return compiled, [compiled.create_infer_request() for _ in range(requests)]


def _at_low_priority(start: Callable[[], T]) -> T:
    """Call ``start``, so that the threads that it starts have a lower priority than all others.

    A thread that prepares a part or answers holds Python's interpreter also while it waits for a
    processor. Behind a graph's threads it would wait for their whole time slice, and with it all
    other threads that need the interpreter. On Linux each thread has its own priority, inherited
    from the thread that starts it.
    """

    def lower() -> None:
        if sys.platform != "linux":
            return
        thread = threading.get_native_id()
        with suppress(OSError):  # a sandbox may forbid it, and it is not essential
            niceness = os.getpriority(os.PRIO_PROCESS, thread)
            os.setpriority(os.PRIO_PROCESS, thread, min(niceness + _NICENESS, 19))

    with ThreadPoolExecutor(1, initializer=lower) as pool:
        return pool.submit(start).result()


def require_library(path: Path) -> None:
    """Check, without loading it, that the library of a graph is installed.

    Raises ``ConfigurationError`` that names the extra.
    """
    library, extra = _LIBRARIES[path.suffix]
    if importlib.util.find_spec(library) is None:
        raise _absent(path, library, extra)


def _library(path: Path) -> Any:
    library, extra = _LIBRARIES[path.suffix]
    try:
        return importlib.import_module(library)
    except ModuleNotFoundError as error:
        raise _absent(path, library, extra) from error
    except ImportError as error:  # it is there and does not load
        raise ConfigurationError(
            f"{library}, which runs {path}, does not load: {error}. Run 'chiasm doctor'."
        ) from error


def _absent(path: Path, library: str, extra: str) -> ConfigurationError:
    return ConfigurationError(
        f"The exported model {path.parent} needs {library}, which is not installed: "
        f"pip install 'chiasm[{extra}]'.",
        see="missing-extra",
    )

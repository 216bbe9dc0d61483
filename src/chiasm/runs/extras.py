"""Which extra installs a package, and the sentence that says so where one is absent."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from chiasm.errors import EXPLAIN

# Module name to the extra that installs it.
EXTRAS = (
    dict.fromkeys(
        (
            *("torch", "lightning", "safetensors", "einops", "efficientnet_lite_pytorch"),
            *("pandas", "scipy", "sklearn", "skimage", "pytorch_metric_learning"),
            *("pydantic", "pydantic_core", "yaml", "jinja2", "markupsafe", "matplotlib"),
        ),
        "train",
    )
    | dict.fromkeys(("nncf", "onnx", "onnxscript", "google"), "export")
    | dict.fromkeys(("fastapi", "starlette", "uvicorn", "python_multipart"), "serve")
    | dict.fromkeys(("prometheus_client", "sqlalchemy"), "serve")
    | {
        "imagecodecs": "formats",
        "OpenEXR": "formats",
        "h5py": "formats",
        "openvino": "runtime",
        "onnxruntime": "runtime-onnx",
        "ray": "cluster",
        "mlflow": "mlflow",
        "pyarrow": "cluster",
        "psycopg": "serve-postgresql",
    }
    | dict.fromkeys(("paho", "pymodbus", "asyncua"), "line")
    | dict.fromkeys(("faiss", "lightgbm"), "rivals")
)

# Commands whose extra has the packages of [train] that they need, and more.
_OF_COMMAND = {"export": "export", "serve": "serve"}

Function = TypeVar("Function", bound=Callable[..., Any])


def missing_extra(error: ModuleNotFoundError, command: str = "") -> str | None:
    """Return how to install what is missing; None for a module of no extra.

    ``command`` is the one that met the error: its own extra is named where that has the module.
    """
    extra = EXTRAS.get((error.name or "").partition(".")[0])
    if extra is None:
        return None
    if extra == "train":
        extra = _OF_COMMAND.get(command, extra)
    return (
        f"This needs {error.name}, which is not installed: pip install 'chiasm[{extra}]'.\n"
        f"More: {EXPLAIN} missing-extra"
    )


def names_extra(function: Function) -> Function:
    """Let a function's ``ModuleNotFoundError`` say in a note which extra is missing."""

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        except ModuleNotFoundError as error:
            sentence = missing_extra(error, function.__name__)
            if sentence is not None and sentence not in getattr(error, "__notes__", ()):
                error.add_note(sentence)
            raise

    return cast(Function, call)

"""A model folder that the real runtime opens: a graph of three operations, written by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from chiasm.detection.preparation.geometry import GeometryScale
from chiasm.detection.preparation.prepare import PreparationSettings
from chiasm.runtime.deployment import Deployment, Port, with_hashes, write_deployment

SIZE = 64
NORMALS = tuple(np.linspace(0.2, 0.6, 99).tolist())


def brightest(folder: Path, *, normals: tuple[float, ...] = NORMALS) -> Path:
    """Write a detector whose map is the mean of the colours and whose score is its maximum."""
    shapes = {"rgb": 3, "geometry": 3, "foreground": 1}
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", channels, SIZE, SIZE])
        for name, channels in shapes.items()
    ]
    outputs = [
        helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, ["n", 1, SIZE, SIZE]),
        helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"]),
    ]
    number = lambda name, values: helper.make_tensor(  # noqa: E731
        name, TensorProto.INT64, [len(values)], values
    )
    nodes = [
        helper.make_node("ReduceMean", ["rgb", "channels"], ["grey"], keepdims=1),
        helper.make_node("ReduceMean", ["geometry", "channels"], ["height"], keepdims=1),
        helper.make_node("Mul", ["height", "nothing"], ["no_height"]),
        helper.make_node("Add", ["grey", "no_height"], ["seen"]),
        helper.make_node("Mul", ["seen", "foreground"], ["anomaly_map"]),
        helper.make_node("ReduceMax", ["anomaly_map", "rest"], ["score"], keepdims=0),
    ]
    constants = [
        number("channels", [1]),
        number("rest", [1, 2, 3]),
        helper.make_tensor("nothing", TensorProto.FLOAT, [], [0.0]),
    ]
    graph = helper.make_graph(nodes, "brightest", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())

    def ports(names: dict[str, int]) -> tuple[Port, ...]:
        return tuple(Port(n, ("n", c, SIZE, SIZE), "float32", n) for n, c in names.items())

    deployment = Deployment(
        wing="detector",
        method="brightest",
        format="onnx",
        precision="fp32",
        modalities=("rgb", "geometry"),
        inputs=ports(shapes),
        outputs=ports({"anomaly_map": 1}),
        origin={},
        parity={},
        files={},
        preparation=PreparationSettings(size=SIZE),
        geometry=GeometryScale(),
        calibration_scores=normals,
        false_alarm_rate=0.05,
        distance=(0.55, 0.6),
    )
    write_deployment(folder, with_hashes(folder, deployment))
    return folder


def disc(brightness: float, *, size: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """A disc 2 cm high on a table 0.6 m away: rgb uint8 and xyz float32 metres."""
    rows, columns = (np.mgrid[:size, :size] - size / 2) / size * 0.2
    on_disc = rows**2 + columns**2 < 0.05**2
    z = np.where(on_disc, 0.58, 0.6)
    xyz = np.dstack([columns, rows, z]).astype(np.float32)
    rgb = np.full((size, size, 3), 25, np.uint8)
    rgb[on_disc] = round(255 * brightness)
    return rgb, xyz

"""A classifier's graph computes in OpenVINO what PyTorch computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from chiasm.deploy.diagnosis import classifier_graph, example_inputs
from chiasm.deploy.graph_files import write_onnx, write_openvino
from chiasm.diagnosis.models.mad import mad_small
from chiasm.runtime.engine import open_engine


def test_attention_over_phases_is_that_of_pytorch(tmp_path: Path):
    torch.manual_seed(0)
    network = mad_small(
        modalities=("series",), series_tokens="phases", segment=256, series_length=1024
    ).eval()
    graph = classifier_graph(network, modalities=("series",))
    (series,) = example_inputs(network, ("series",))
    write_onnx(
        graph,
        [series],
        tmp_path / "model.onnx",
        inputs=graph.inputs,
        outputs=graph.outputs,
        dynamic=[{2: 256 * torch.export.Dim("tokens", min=2, max=4)}],
    )
    write_openvino(tmp_path / "model.onnx", tmp_path / "model.xml", quantised_on=None)
    engine = open_engine(tmp_path / "model.xml", threads=1, generated=False)
    values = 3 * torch.rand(series.shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = graph(values)
    expected = expected[0] if isinstance(expected, tuple) else expected
    logits = engine.run({"series": values.numpy()})["logits"]
    np.testing.assert_allclose(logits, expected.numpy(), atol=1e-4)

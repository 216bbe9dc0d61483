"""Devices by name, what they multiply, chunks that fit, and errors that say what to lower."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import chiasm.diagnosis.models.named  # noqa: F401  (importing registers the classifiers)
from chiasm import api
from chiasm.cli.main import app
from chiasm.detection.config import DetectionConfig
from chiasm.diagnosis.config import DiagnosisConfig
from chiasm.errors import ChiasmError, ConfigurationError, DeviceLostError, OutOfMemoryError
from chiasm.runtime.deployment import DEPLOYMENT
from chiasm.training import device as module
from chiasm.training.device import (
    CPU,
    device_errors,
    device_of,
    find_device,
    in_chunks,
    in_double,
    is_out_of_memory,
    loading,
    loading_workers,
    multiplies_bfloat16,
    precision_on,
    rows_at_once,
)

GPU = torch.device("cuda", 0)


def with_gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(module, "device_count", lambda kind: count if kind == "cuda" else 0)


def test_a_name_is_a_device_with_its_number(monkeypatch: pytest.MonkeyPatch):
    with_gpus(monkeypatch, 2)
    assert find_device("cpu") == CPU
    assert find_device("auto") == find_device("cuda") == find_device("cuda:0") == GPU
    assert find_device("cuda:1") == torch.device("cuda", 1)
    with_gpus(monkeypatch, 0)
    assert find_device() == CPU


@pytest.mark.parametrize(
    ("name", "gpus", "remedy"),
    [("cuda", 0, "device=cpu"), ("cuda:3", 2, "cuda:0 to cuda:1"), ("mps", 1, "device=auto")],
)
def test_a_device_that_is_not_there_is_refused_with_a_remedy(monkeypatch, name, gpus, remedy):
    with_gpus(monkeypatch, gpus)
    with pytest.raises(ConfigurationError, match=remedy):
        find_device(name)


@pytest.mark.parametrize("settings", [DetectionConfig, DiagnosisConfig])
def test_a_word_that_is_no_device_is_refused(settings, tmp_path):
    values = {"data": tmp_path, "out": tmp_path / "run"}
    assert settings.make(**values).device == "auto"
    assert settings.make(**values, device="cuda:1").device == "cuda:1"
    with pytest.raises(ConfigurationError, match="auto, cpu, cuda, cuda:N or mps"):
        settings.make(**values, device="gpu")


@pytest.mark.parametrize("command", ["train", "search"])
def test_the_command_line_names_a_device(tmp_path, command):
    given = ["--data", str(tmp_path), "--out", str(tmp_path / "run"), "--device", "gpu"]
    error = CliRunner().invoke(app, [command, *given]).exception
    assert isinstance(error, ConfigurationError) and "'gpu'" in str(error)


def test_an_exported_model_is_refused_another_device_than_the_processor(tmp_path):
    (tmp_path / DEPLOYMENT).write_text("{}")
    with pytest.raises(ConfigurationError, match="runs on the processor"):
        api.load(tmp_path, device="cuda")


@pytest.mark.parametrize(
    ("device", "instructions", "expected"),
    [(CPU, True, "bf16"), (CPU, False, "32"), (GPU, True, "bf16"), (GPU, False, "fp16")],
)
def test_products_are_computed_in_what_the_device_multiplies(
    monkeypatch, device, instructions, expected
):
    monkeypatch.setattr(module, "multiplies_bfloat16", lambda device: instructions)
    assert precision_on(device, "auto") == expected
    assert precision_on(device, "32") == "32" and precision_on(device, "bf16") == "bf16"
    # Gradients that no trainer scales would vanish.
    unscaled = "32" if expected == "fp16" else expected
    assert precision_on(device, "auto", scaled=False) == unscaled


def test_half_precision_without_a_gpu_is_refused():
    with pytest.raises(ConfigurationError, match="precision=auto"):
        precision_on(CPU, "fp16")


@pytest.mark.parametrize(
    ("amx", "avx512"), [(True, True), (False, True), (True, False), (False, False)]
)
def test_a_processor_multiplies_bfloat16_by_its_instructions(monkeypatch, amx, avx512):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    assert multiplies_bfloat16(CPU) == (amx or avx512)


def test_a_torch_without_the_queries_does_not_multiply_bfloat16(monkeypatch):
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert not multiplies_bfloat16(CPU)


def test_a_network_is_where_its_tensors_are():
    with torch.device("meta"):
        network = nn.Linear(2, 2)
    assert device_of(network).type == "meta"
    assert device_of(nn.BatchNorm1d(2, affine=False)) == device_of(nn.ReLU()) == CPU


def test_a_chunk_that_does_not_fit_is_halved():
    tried: list[int] = []

    def compute(rows: slice) -> list[int]:
        tried.append(rows.stop - rows.start)
        if tried[-1] > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        return list(range(rows.start, rows.stop))

    chunks = in_chunks(compute, 11, 8)
    assert [row for chunk in chunks for row in chunk] == list(range(11))
    assert tried == [8, 4, 2, 2, 2, 2, 2, 1]
    assert in_chunks(compute, 0, 8) == []


def test_a_row_that_does_not_fit_and_another_error_are_raised():
    def fail(error: Exception):
        def compute(rows: slice) -> None:
            raise error

        return compute

    for error in (torch.OutOfMemoryError("CUDA out of memory."), MemoryError()):
        with pytest.raises(type(error)):
            in_chunks(fail(error), 4, 4)
    with pytest.raises(RuntimeError, match="shapes"):
        in_chunks(fail(RuntimeError("shapes differ")), 4, 4)


def test_chunks_on_a_gpu_are_as_large_as_there_is_room(monkeypatch):
    monkeypatch.setattr(module, "free_bytes", lambda device: 4_000_000)
    assert rows_at_once(GPU, 1000, usual=7) == 1000
    assert rows_at_once(GPU, 10**9, usual=7) == 1
    assert rows_at_once(CPU, 1000, usual=7) == 7


@pytest.mark.parametrize(
    ("error", "kind", "remedy"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), OutOfMemoryError, "smaller batch"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), OutOfMemoryError, "batch"),
        (RuntimeError("CUDA error: unspecified launch failure"), DeviceLostError, "device=cpu"),
    ],
)
def test_errors_of_a_device_say_what_to_do(error, kind, remedy):
    with (
        pytest.raises(kind, match=remedy) as raised,
        device_errors(GPU, remedy="Give a smaller batch."),
    ):
        raise error
    assert isinstance(raised.value, ChiasmError)
    assert is_out_of_memory(raised.value) == (kind is OutOfMemoryError)


def test_other_errors_stay_as_they_are():
    with pytest.raises(RuntimeError, match="shapes"), device_errors(GPU, remedy=""):
        raise RuntimeError("shapes differ")


def test_batches_of_a_gpu_are_pinned_and_made_beside_it():
    assert loading(GPU) == {"pin_memory": True} and loading(CPU) == {}
    assert loading_workers(CPU) == 0 <= loading_workers(GPU)


def test_double_precision_is_exact_where_it_is_computed():
    values = torch.rand(5)
    assert torch.equal(in_double(values), values.double())

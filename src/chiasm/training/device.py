"""The device that computes: found by its name, what it multiplies, and what it has room for.

The only place that knows what a device's name means. Networks are put on a device where they are
made; whatever is computed with one afterwards runs where the network is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from chiasm.errors import ConfigurationError, DeviceLostError, OutOfMemoryError
from chiasm.settings import Precision

CPU = torch.device("cpu")
Multiplied = Literal["32", "bf16", "fp16"]
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}

_ROOM = 0.25  # share of the free memory that one chunk may take
_MOST_WORKERS = 8

Result = TypeVar("Result")
Module = TypeVar("Module", bound=nn.Module)


def device_count(kind: str) -> int:
    """Return how many devices of a kind, ``"cuda"`` or ``"mps"``, PyTorch can use here."""
    if kind == "cuda":
        return torch.cuda.device_count() if torch.cuda.is_available() else 0
    return int(torch.backends.mps.is_available())


def find_device(name: str = "auto") -> torch.device:
    """Return the device of a name, with its number.

    Args:
        name: ``auto``: the first CUDA GPU, or the processor without any; ``cpu``, ``cuda``,
            ``cuda:N`` or ``mps``.

    Raises:
        ConfigurationError: there is no such device here, with what there is.
    """
    if name == "cpu":
        return CPU
    if name == "auto":
        # Apple's GPU has no double precision and is not measured: it has to be named.
        name = "cuda" if device_count("cuda") else "cpu"
        return find_device(name)
    kind, _, number = name.partition(":")
    index, count = int(number or 0), device_count(kind)
    if index >= count:
        raise ConfigurationError(
            f"There is no device {name!r} here: {_why_not(kind, count)}", see="device"
        )
    if kind == "cuda":
        # With TensorFloat-32 convolutions keep 10 bits: frozen features, and with them scores and
        # thresholds, would differ by a thousandth from those of another device.
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
    return torch.device(kind, index)


def gpus_of(name: str) -> int:
    """Return the CUDA GPUs that several processes of a run may share out; see ``find_device``.

    That is all where the run does not name one of them, and 0 for another device.
    """
    if find_device(name).type != "cuda":
        return 0
    return device_count("cuda") if name in ("auto", "cuda") else 1


def _why_not(kind: str, count: int) -> str:
    if kind == "mps":
        return "PyTorch finds no GPU of Apple. Give device=cpu, or device=auto."
    if count:
        numbers = f"cuda:0 to cuda:{count - 1}" if count > 1 else "cuda:0"
        return f"PyTorch finds {numbers}. Give one of these, or device=auto."
    if torch.version.cuda is None:
        return (
            "this PyTorch was built without CUDA. Install one with CUDA (pytorch.org/get-started), "
            "or give device=cpu."
        )
    return (
        "PyTorch finds no GPU; 'nvidia-smi' says whether the driver runs, and CUDA_VISIBLE_DEVICES "
        "may hide GPUs. Give device=cpu to go on without."
    )


def device_of(module: nn.Module) -> torch.device:
    """Return the device of a network's parameters and buffers; the processor without any."""
    for values in (module.parameters(), module.buffers()):
        for tensor in values:
            return tensor.device
    return CPU


def put(module: Module, device: torch.device) -> Module:
    """Return a network on a device, moved unless it is there.

    Tensors without data, on which the memory of a step is counted, cannot be moved.
    """
    tensors = (*module.parameters(), *module.buffers())
    return module if all(t.device == device for t in tensors) else module.to(device)


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions that multiply bfloat16."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "mps":
        return False
    # Instructions by the queries that torch has for them (AMX, AVX-512 BF16); a torch that lacks
    # one does not use the instructions.
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    queries = (getattr(torch.cpu, name, lambda: False) for name in names)
    return any(query() for query in queries)


def precision_on(device: torch.device, precision: Precision, *, scaled: bool = True) -> Multiplied:
    """Return what products of a training are computed in on a device.

    Args:
        device: that trains.
        precision: ``"auto"`` is ``"bf16"`` where the device multiplies bfloat16, else ``"fp16"`` on
            a CUDA GPU and ``"32"`` elsewhere.
        scaled: whether the training scales its losses, without which small gradients vanish in
            ``"fp16"``; where it does not, that becomes ``"32"``.

    Raises:
        ConfigurationError: ``"fp16"`` on another device than a CUDA GPU.
    """
    if precision == "fp16" and device.type != "cuda":
        raise ConfigurationError(
            f"precision=fp16 needs a CUDA GPU, and this run trains on {device}. Give "
            "precision=auto, bf16 or 32."
        )
    if precision == "auto":
        if multiplies_bfloat16(device):
            return "bf16"
        precision = "fp16" if device.type == "cuda" else "32"
    return "32" if precision == "fp16" and not scaled else precision


def prefers_channels_last(device: torch.device, multiplied: Multiplied) -> bool:
    """Whether convolutions are faster with the channels last: those in half precision are."""
    return multiplied != "32"


def loading(device: torch.device) -> dict[str, Any]:
    """Return arguments of a ``DataLoader`` whose batches a device takes.

    Pinned memory is copied to a GPU while it computes.
    """
    return {"pin_memory": True} if device.type == "cuda" else {}


def loading_workers(device: torch.device) -> int:
    """Return how many processes make the batches of a device: none but beside a CUDA GPU.

    A part with an anomaly takes a core some milliseconds, in which a GPU would wait. A processor
    that trains has no core to spare.
    """
    if device.type != "cuda":
        return 0
    return max(0, min(_MOST_WORKERS, (os.cpu_count() or 1) - 1))


def free_bytes(device: torch.device) -> int:
    """Return the bytes that can still be allocated on a device; of a processor, those it has."""
    if device.type == "cuda":
        free = int(torch.cuda.mem_get_info(device)[0])
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + int(cached)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def rows_at_once(device: torch.device, row_bytes: int, *, usual: int) -> int:
    """Return how many rows of a table are computed at a time.

    Args:
        device: that computes.
        row_bytes: of a row of what is computed.
        usual: rows on a processor, whose cache it is measured for.
    """
    if device.type == "cpu":
        return usual
    return max(1, int(_ROOM * free_bytes(device)) // max(1, row_bytes))


def in_chunks(compute: Callable[[slice], Result], count: int, size: int) -> list[Result]:
    """Compute something for ``count`` rows, ``size`` of them at a time.

    A chunk that does not fit the memory is computed again in halves, and those after it as well.

    Args:
        compute: of the rows of a slice; what it changes elsewhere, it changes last.
        count: rows.
        size: rows of a chunk.

    Raises:
        RuntimeError: of PyTorch, where not even one row fits.
    """
    results: list[Result] = []
    start = 0
    while start < count:
        try:
            results.append(compute(slice(start, min(start + size, count))))
            start += size
            continue
        except (RuntimeError, MemoryError) as error:
            if size == 1 or not is_out_of_memory(error):
                raise
        # After the handler, so that no traceback holds the tensors that did not fit.
        size = max(1, min(size, count - start) // 2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return results


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be allocated, of a GPU or of the machine."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError | OutOfMemoryError):
        return True
    text = str(error)
    words = ("can't allocate memory", "not enough memory", "out of memory", "CUBLAS_STATUS_ALLOC")
    return isinstance(error, RuntimeError) and any(word in text for word in words)


def is_lost(error: BaseException) -> bool:
    """Whether an error says that a GPU answers no more: every later call of it fails as well."""
    words = ("CUDA error", "CUDA driver error", "CUDNN_STATUS_EXECUTION_FAILED")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


@contextmanager
def device_errors(device: torch.device, *, remedy: str) -> Iterator[None]:
    """Tell in a sentence that a device has no memory left, or is lost.

    Args:
        device: that computes.
        remedy: what needs less memory, as a sentence.

    Raises:
        OutOfMemoryError: memory could not be allocated.
        DeviceLostError: the device answers no more.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            place = "The machine" if device.type == "cpu" else f"The device {device}"
            raise OutOfMemoryError(
                f"{place} has no memory left for this. {remedy}", see="memory"
            ) from error
        if is_lost(error):
            raise DeviceLostError(
                f"The device {device} answers no more ({str(error).splitlines()[0]}). What was "
                "finished is kept: start the same command again, with device=cpu where the device "
                "does not come back."
            ) from error
        raise


def placed(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor of a batch to a device; from pinned memory, a GPU computes meanwhile.

    Towards the processor the copy is waited for: it would else be read before it is complete.
    """
    return tensor.to(device, non_blocking=device.type == "cuda")


def in_double(values: Tensor) -> Tensor:
    """Return values in double precision, on the processor where their device has none (MPS)."""
    return values.cpu().double() if values.device.type == "mps" else values.double()

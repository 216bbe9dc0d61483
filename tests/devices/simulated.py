"""A second device on a machine without one: tensors with data, which do not mix with others.

``FakeTensorMode`` has no data, so that what selects by values stops in it; and on a PyTorch without
CUDA its tensors of ``cuda`` have neither a backward pass nor a copy. Tensors of this device hold
their numbers in the machine's memory. An operation computes what it computes on a processor, to the
bit, and fails where a real second device would: operands on two devices, generators of the
processor, arrays of numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

CPU = torch.device("cpu")
_ELSEWHERE = (CPU, torch.device("meta"))
# Operations that take tensors of two devices.
_CROSSING = {torch.ops.aten.copy_.default}
# Operations that make tensors on the operand's device, for which they ask behind Python's back.
_COMPOSED = {torch.quantile, Tensor.quantile, torch.nn.functional.one_hot}
_SHAPE_CHANGES = ("resize_", "set_", "t_", "transpose_", "squeeze_", "unsqueeze_", "as_strided_")


class DeviceTensor(Tensor):
    """A tensor of the simulated device; ``held`` are its numbers."""

    held: Tensor
    place: torch.device

    @staticmethod
    def __new__(cls, held: Tensor, place: torch.device) -> DeviceTensor:
        made = Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=held.device,
        )
        made.held, made.place = held, place
        return made

    @property
    def device(self) -> torch.device:
        return self.place

    is_cuda = property(lambda self: self.place.type == "cuda")
    is_mps = property(lambda self: self.place.type == "mps")
    is_cpu = property(lambda self: False)

    def __repr__(self, **_: Any) -> str:
        return f"DeviceTensor({self.held!r}, {self.place})"

    def __tensor_flatten__(self) -> tuple[list[str], torch.device]:
        return ["held"], self.place

    @staticmethod
    def __tensor_unflatten__(
        inner: dict[str, Tensor], place: torch.device, size: Any, stride: Any
    ) -> DeviceTensor:
        return DeviceTensor(inner["held"], place)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.held.clone().__reduce_ex__(protocol)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) in memo:
            return memo[id(self)]
        copied = DeviceTensor(self.held.clone(), self.place)
        if getattr(self, "_is_param", False):
            copied = torch.nn.Parameter(copied, self.requires_grad)  # type: ignore[assignment]
        memo[id(self)] = copied
        return copied

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors: list[Tensor] = []
        tree_map_only(Tensor, tensors.append, (args, kwargs))
        place = next(t.place for t in tensors if isinstance(t, DeviceTensor))
        name = func.overloadpacket.__name__
        writes = name.endswith("_") and not name.endswith("__")
        if name in _SHAPE_CHANGES:
            raise NotImplementedError(f"the simulated device has no {name}")
        if func not in _CROSSING and not _fills_in(name):
            for number, tensor in enumerate(tensors):
                other = not isinstance(tensor, DeviceTensor)
                # Numbers without a shape may come from the processor, but are not written to.
                if other and (tensor.dim() or (writes and number == 0)):
                    raise RuntimeError(
                        "Expected all tensors to be on the same device, but found at least two "
                        f"devices, {place} and cpu! ({func})"
                    )
        _refuse_generator(kwargs, place)
        if place.type == "mps" and (
            kwargs.get("dtype") is torch.float64 or any(t.dtype is torch.float64 for t in tensors)
        ):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        args, kwargs = tree_map_only(DeviceTensor, lambda t: t.held, (args, kwargs))
        answer = func(*args, **kwargs)
        if writes:
            return tensors[0]
        return tree_map_only(Tensor, lambda t: DeviceTensor(t, place), answer)


def _fills_in(name: str) -> bool:
    """Whether autograd joins gradients, where it makes zeros of outputs that had none itself."""
    return name == "stack" and torch._C._current_autograd_node() is not None


class _Move(torch.autograd.Function):
    """A copy to another device, whose gradient is copied back."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, place: torch.device) -> Tensor:
        ctx.place = tensor.device
        return _copied(tensor, place)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _copied(gradient, ctx.place), None


def _copied(tensor: Tensor, place: torch.device) -> Tensor:
    held = tensor.held if isinstance(tensor, DeviceTensor) else tensor
    held = held.detach().clone()
    return held if place in _ELSEWHERE else DeviceTensor(held, place)


def _refuse_generator(kwargs: dict[str, Any], place: torch.device) -> None:
    if kwargs.get("generator") is not None:
        raise RuntimeError(f"Expected a '{place.type}' device type for generator but found 'cpu'")


def moved(tensor: Tensor, place: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Return a tensor on a device, itself where it is there."""
    if place.type == "mps" and (dtype or tensor.dtype) is torch.float64:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
    if tensor.device != place:
        tensor = _Move.apply(tensor, place) if tensor.requires_grad else _copied(tensor, place)
    return tensor if dtype in (None, tensor.dtype) else torch.ops.aten._to_copy(tensor, dtype=dtype)


class SimulatedDevice(TorchFunctionMode):
    """Makes tensors of other devices than the processor ``DeviceTensor``s, everywhere within it."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        first = args[0] if args else None
        if func is Tensor.to:
            return self._to(func, args, kwargs)
        if func is Tensor.cpu:
            return moved(first, CPU)
        if func is Tensor.cuda:
            return moved(first, torch.device("cuda", 0))
        if isinstance(first, DeviceTensor):
            if func in (Tensor.numpy, Tensor.__array__, Tensor.data_ptr):
                raise TypeError(
                    f"can't convert {first.place} device type tensor to numpy. Use Tensor.cpu() to "
                    "copy the tensor to host memory first."
                )
            if func in (Tensor.__getitem__, Tensor.__setitem__):
                args = (first, _placed_lists(args[1], first.place), *args[2:])
            if func in _COMPOSED:
                held = tree_map_only(DeviceTensor, lambda t: t.held, (args, kwargs))
                return DeviceTensor(func(*held[0], **held[1]), first.place)
            if func is Tensor.tolist:
                return first.held.tolist()
            if func is Tensor.pin_memory:
                raise RuntimeError("only dense CPU tensors can be pinned")
            if func == Tensor.data.__set__:  # type: ignore[attr-defined]
                gradient = first.grad
                torch.utils.swap_tensors(first, _as_parameter(args[1], first))
                if gradient is not None:
                    first.grad = moved(gradient, args[1].device)
                return None
        device = kwargs.get("device")
        if device is None:
            return func(*args, **kwargs)
        place = torch.device(device)
        if place in _ELSEWHERE and not isinstance(first, DeviceTensor):
            return func(*args, **kwargs)
        if place not in _ELSEWHERE:
            _refuse_generator(kwargs, place)
            kwargs["device"] = CPU
        if isinstance(first, DeviceTensor):
            args = (first.held, *args[1:])
        return moved(func(*args, **kwargs), place)

    @staticmethod
    def _to(func: Any, args: Any, kwargs: dict[str, Any]) -> Tensor:
        tensor, rest = args[0], args[1:]
        place, dtype = kwargs.get("device"), kwargs.get("dtype")
        for value in rest:
            if isinstance(value, Tensor):
                place, dtype = value.device, value.dtype
            elif isinstance(value, torch.dtype):
                dtype = value
            elif isinstance(value, str | torch.device):
                place = value
        place = tensor.device if place is None else torch.device(place)
        if not isinstance(tensor, DeviceTensor) and place in _ELSEWHERE:
            return func(*args, **kwargs)
        tensor = moved(tensor, place, dtype)
        layout = kwargs.get("memory_format")
        return tensor if layout is None else tensor.contiguous(memory_format=layout)


def _placed_lists(index: Any, place: torch.device) -> Any:
    """Return an index whose lists of numbers are on a device, where PyTorch puts them."""
    if isinstance(index, tuple):
        return tuple(_placed_lists(item, place) for item in index)
    return moved(torch.tensor(index), place) if isinstance(index, list) else index


def _as_parameter(value: Tensor, like: Tensor) -> Tensor:
    return torch.nn.Parameter(value, like.requires_grad) if like.is_leaf else value


class _Accelerator(CPUAccelerator):
    def setup_device(self, device: torch.device) -> None:
        """Take any device."""


@contextmanager
def simulated_device(monkeypatch: Any, name: str = "cuda:0") -> Iterator[torch.device]:
    """Let ``chiasm`` find one device of this name, and run all that it places there."""
    place = torch.device(name)
    monkeypatch.setattr("chiasm.training.device.device_count", lambda kind: int(kind == place.type))
    for module in ("training.device", "detection.training.step_memory"):
        monkeypatch.setattr(f"chiasm.{module}.free_bytes", lambda device: 2**35)
    monkeypatch.setattr("chiasm.training.device.multiplies_bfloat16", lambda device: False)
    placed: Callable[..., dict[str, Any]] = lambda device: (  # noqa: E731
        {"strategy": SingleDeviceStrategy(device, accelerator=_Accelerator())}
        if device.type == place.type
        else {"accelerator": "cpu", "devices": 1}
    )
    monkeypatch.setattr("chiasm.training.trainer.trainer_place", placed)
    monkeypatch.setattr("chiasm.detection.training.synthetic.loading_workers", lambda device: 0)
    # Memory is pinned for devices that PyTorch itself knows.
    for module in ("detection.training.feature_store", "detection.training.synthetic"):
        monkeypatch.setattr(f"chiasm.{module}.loading", lambda device: {})
    for module in ("detection.training.baseline", "diagnosis.training.dataset"):
        monkeypatch.setattr(f"chiasm.{module}.loading", lambda device: {})
    # Tensors that hold others cannot be views in inference mode: it records no gradients instead.
    monkeypatch.setattr(torch.inference_mode, "__enter__", _without_gradients)
    monkeypatch.setattr(torch.inference_mode, "__exit__", _as_before)
    with SimulatedDevice():
        yield place


def _without_gradients(mode: Any) -> None:
    mode.former = torch.is_grad_enabled()
    torch.set_grad_enabled(False)


def _as_before(mode: Any, *_: Any) -> None:
    torch.set_grad_enabled(mode.former)

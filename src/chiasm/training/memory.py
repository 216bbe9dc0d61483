"""The memory of a computation, counted by its allocations, also on tensors without data."""

from __future__ import annotations

import weakref
from collections import Counter
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only


class AllocationCount(TorchDispatchMode):
    """Counts the bytes of all tensors that are made within it, until they are freed.

    Tensors of ``FakeTensorMode`` have sizes without data, so that a network that fits no memory
    here can be counted; what kernels allocate for themselves is not seen.

    Attributes:
        group: what new tensors are counted under.
        alive: bytes by group that are in use.
        peak: the largest number of bytes that were in use at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.group = ""
        self.alive: Counter[str] = Counter()
        self.peak = 0
        self._current = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and count the storages that it returns for the first time."""
        result = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._count, result)
        return result

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known or tensor.device.type == "meta":
            return
        self._known.add(key)
        self.alive[self.group] += size
        self._current += size
        self.peak = max(self.peak, self._current)
        weakref.finalize(storage, self._freed, key, size, self.group)

    def _freed(self, key: int, size: int, group: str) -> None:
        self._known.discard(key)
        self.alive[group] -= size
        self._current -= size

"""Every detector that has a name: importing this registers them all."""

from chiasm.detectors import adnas, trivial

__all__ = ["adnas", "trivial"]

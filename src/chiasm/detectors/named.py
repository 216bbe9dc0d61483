"""Every detector that has a name: importing this registers them all."""

from chiasm.detectors import adnas, btf, pixel_gaussian, trivial

__all__ = ["adnas", "btf", "pixel_gaussian", "trivial"]

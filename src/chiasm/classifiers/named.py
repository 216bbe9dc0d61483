"""Every classifier that has a name: importing this registers them all."""

from chiasm.classifiers import mad

__all__ = ["mad"]

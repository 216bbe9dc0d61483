"""Find faults from two kinds of sensor at once, and learn how to fuse them."""

__version__ = "0.1.0"

"""Figures that tables show, and words that they use."""

from __future__ import annotations

IMAGE, PIXEL, REGION = "image.auroc", "pixel.auroc", "region.aupro.0.3"
FIGURES = {
    "image AUROC": IMAGE,
    "pixel AUROC": PIXEL,
    "pixel AP": "pixel.ap",
    "AUPRO(0.3)": REGION,
    "AUPRO(0.05)": "region.aupro.0.05",
    "fit minutes": "cost.fit_minutes",
    "frames a second": "speed.frames_per_second",
    "memory, MB": "speed.peak_memory_mb",
}
NOT_BUILT = "the method is not built here"
NOT_THERE = "the category is not among the data"
MEAN = "Mean"


def source_of(name: str) -> str:
    """Which table of which paper a name of the command line is; "" for our own."""
    if name.startswith("table"):
        return f"Table {name.removeprefix('table')} of the 3D-ADNAS paper"
    if name.startswith("supp"):
        return f"Table {name.removeprefix('supp')} of the 3D-ADNAS supplement"
    return ""

"""A genotype as a picture that a person understands."""

from __future__ import annotations

from pathlib import Path

from chiasm.fusion.genotype import Genotype


def draw_genotype(
    genotype: Genotype, *, path_svg: Path | None = None, path_png: Path | None = None
) -> None:
    """Draw (placeholder until the drawing lands in the next commit)."""

"""Synthetic defects for normal parts: the paper's, and ones that change shape and shading."""

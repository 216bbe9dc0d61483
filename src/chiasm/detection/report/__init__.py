"""Figures and report of a detector."""

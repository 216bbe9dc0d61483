"""Figures and report of a classifier."""

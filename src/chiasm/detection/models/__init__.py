"""Detectors: one file a method."""

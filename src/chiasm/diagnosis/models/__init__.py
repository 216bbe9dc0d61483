"""Classifiers: one file a method."""

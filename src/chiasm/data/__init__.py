"""Readers, makers and preparation of samples."""

"""Simulated recordings of partial discharge."""

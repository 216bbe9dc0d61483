"""Recordings of an asset over time: what is compared, what changed, and since when."""

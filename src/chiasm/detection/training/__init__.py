"""How detectors learn."""

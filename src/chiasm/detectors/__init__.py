"""Networks that find defects in RGB + 3D."""

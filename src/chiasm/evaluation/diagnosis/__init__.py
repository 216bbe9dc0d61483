"""From what a classifier said about recordings to figures, and from figures to a report."""

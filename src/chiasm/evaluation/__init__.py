"""From maps to figures, and from figures to a report."""

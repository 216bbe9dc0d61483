"""Run folders, model folders, the final round of a search, and the console."""

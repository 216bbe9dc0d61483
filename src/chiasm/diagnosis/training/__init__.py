"""How classifiers learn."""

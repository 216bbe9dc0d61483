"""Views of a recording, and what can go wrong with it."""

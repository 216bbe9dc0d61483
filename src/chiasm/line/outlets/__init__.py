"""Outlets: systems of a plant that receive verdicts, each by its own protocol."""

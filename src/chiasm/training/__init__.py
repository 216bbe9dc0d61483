"""Trainers around networks."""

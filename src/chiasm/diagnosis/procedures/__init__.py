"""Procedures about a training: several members, adaptation, choice among models, other splits."""

"""Trainer, budget, schedule and best weights, for the training loops of both wings."""

"""The two-level fusion search space and what it yields."""

"""The two-level search space of the fusion, its networks and its search."""

"""Turn samples into the inputs of networks; all but ``batch`` works without torch."""

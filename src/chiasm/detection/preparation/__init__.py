"""From a sample to the input of a network; without torch."""

"""From a recording to the input of a network; without torch."""

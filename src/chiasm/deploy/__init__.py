"""From a trained model to a folder that runs without torch, with its parity proven."""

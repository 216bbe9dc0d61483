"""On the line: judge what appears in a folder, and send verdicts to a plant's systems."""

"""The HTTP service: models behind an address, every verdict in a log, and a page for operators."""

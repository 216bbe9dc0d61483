"""The HTTP service: exported models, a log of all verdicts, and a page for operators."""

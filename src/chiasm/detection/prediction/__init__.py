"""Verdicts as rows of tables, and any number of them."""

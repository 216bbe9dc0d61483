"""Parts that are rendered."""

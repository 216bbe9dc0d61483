"""Files of recordings as samples."""

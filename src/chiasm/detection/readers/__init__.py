"""Files of parts as samples."""

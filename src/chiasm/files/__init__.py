"""Images, tables and hashes of files."""

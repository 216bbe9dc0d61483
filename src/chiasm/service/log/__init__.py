"""The log of all verdicts: SQLite or PostgreSQL, with a spool on disk for when it is away."""

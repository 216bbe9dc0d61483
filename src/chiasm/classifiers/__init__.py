"""Networks that say which kind of discharge a recording shows."""

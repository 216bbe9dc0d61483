"""What a check of parts finds: measures of many parts together, and facts that files lack."""

"""Assets: recordings of one apparatus over time, from the log, with alarms."""

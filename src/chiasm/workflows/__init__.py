"""The verbs: each composes the rooms below into one job."""

"""Figure record, style, cost table, training logs and templates of both wings' reports."""

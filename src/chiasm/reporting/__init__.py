"""What the reports of both wings share."""

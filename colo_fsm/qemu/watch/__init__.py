"""Real pairs held against the two tables: from between them, from their logs, and by playing one side."""

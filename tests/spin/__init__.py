"""A second opinion on the explorer: its scenarios as Promela models, for SPIN."""

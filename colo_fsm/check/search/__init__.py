"""The search through every moment of a system, and how it is made fast."""

"""The system that is explored, step by step: two sides, the link between them, what is true of both."""

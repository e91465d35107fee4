"""Guests that are ready to be replicated: `sqlite`, a database, and `sqlite_server`, which serves it."""

__all__: list[str] = []

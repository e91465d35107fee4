"""Protocols that are not COLO, declared with public names alone: what runs, is drawn and is proved."""

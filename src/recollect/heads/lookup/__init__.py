"""Memorization-based inference: a network replayed from a table."""

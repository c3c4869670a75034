"""Rows that last."""

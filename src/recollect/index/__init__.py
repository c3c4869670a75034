"""Nearest rows: exact search, always rebuildable from the rows."""

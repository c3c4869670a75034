"""Dual memory networks: names, a few examples, and the stream itself (arXiv 2403.17589)."""

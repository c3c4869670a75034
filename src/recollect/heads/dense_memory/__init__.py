"""Dense prediction from a memory of feature pyramids (PARMESAN, arXiv 2403.11743)."""

"""Input -> keys."""

"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# Timings are never assertions: a busy machine fails no test.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

"""What holds for all tests."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# Timings are never assertions: a busy machine fails no test.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests leave nothing in the user's cache, unless one was named for them."""
    os.environ.setdefault("RECOLLECT_CACHE", str(tmp_path_factory.mktemp("cache")))

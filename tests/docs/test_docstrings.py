"""The examples in docstrings run."""

from __future__ import annotations

import doctest
import pkgutil
from importlib import import_module

import pytest

import recollect

MODULES = sorted(found.name for found in pkgutil.walk_packages(recollect.__path__, "recollect."))


@pytest.mark.parametrize("name", MODULES)
def test_every_example_in_a_docstring_prints_what_it_says(name, tmp_path, monkeypatch):
    """An example that fails is worse than none: it is believed."""
    monkeypatch.chdir(tmp_path)

    result = doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS)

    assert result.failed == 0

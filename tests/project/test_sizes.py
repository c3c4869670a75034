"""Sizes that keep the code readable: a limit for each, and a lower one for most."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

import recollect

SOURCE = Path(recollect.__file__).parent
MODULES = sorted(SOURCE.rglob("*.py"))
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def body_lines(function):
    """Lines of a function after its docstring; one of nothing but a docstring has none."""
    statements = function.body[1:] if ast.get_docstring(function) else function.body
    return statements[-1].end_lineno - statements[0].lineno + 1 if statements else 0


def functions(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        f"{path.name}:{node.lineno} {node.name}": body_lines(node)
        for node in ast.walk(tree)
        if isinstance(node, FUNCTIONS)
    }


def test_no_module_is_longer_than_500_lines():
    """A file holds one idea."""
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}

    assert {name: lines for name, lines in lengths.items() if lines > 500} == {}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_no_function_body_is_longer_than_60_lines(path):
    """A function fits on a screen."""
    assert {name: lines for name, lines in functions(path).items() if lines > 60} == {}


def test_nine_functions_in_ten_have_at_most_25_lines():
    """Long functions are exceptions."""
    lines = [count for path in MODULES for count in functions(path).values()]

    assert np.percentile(lines, 90) <= 25

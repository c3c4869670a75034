"""A fresh Python interpreter that sees the package under test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import recollect

SOURCE = Path(recollect.__file__).resolve().parents[1]


def run_python(code: str) -> str:
    """Run code in a new process and return what it prints; fails with its error text."""
    env = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()

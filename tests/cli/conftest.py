"""A small folder of real image files, a memory taught from it, and ways to run commands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import recollect
from recollect.cli.app import app

pytest.importorskip("PIL")
from PIL import Image

SOURCE = Path(recollect.__file__).resolve().parents[1]
COLORS = {"blue": (30, 40, 220), "red": (220, 40, 30)}


def write_pictures(folder: Path, count: int, seed: int) -> Path:
    """Noisy pictures of each color, in one folder per color."""
    random = np.random.default_rng(seed)
    for name, color in COLORS.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            noise = random.integers(-25, 26, (16, 16, 3))
            pixels = np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def lessons(tmp_path_factory):
    """Four pictures of each class to teach."""
    return write_pictures(tmp_path_factory.mktemp("pictures") / "lessons", 4, seed=0)


@pytest.fixture(scope="session")
def questions(tmp_path_factory):
    """Three more of each to ask about."""
    return write_pictures(tmp_path_factory.mktemp("pictures") / "questions", 3, seed=1)


@pytest.fixture
def run():
    """Run a command in this process; the result has exit_code, stdout and stderr."""

    def go(*arguments, answer=None):
        return CliRunner().invoke(app, [str(each) for each in arguments], input=answer)

    return go


@pytest.fixture
def facts(run):
    """Run a command with --json, which must succeed and print one JSON object."""

    def go(*arguments):
        done = run(*arguments, "--json")
        assert (done.exit_code, done.stderr) == (0, ""), done.output
        return json.loads(done.stdout)

    return go


@pytest.fixture(scope="session")
def taught(lessons, tmp_path_factory):
    """A memory that was taught once."""
    path = tmp_path_factory.mktemp("taught") / "colors"
    for arguments in (["init", path, "--encoder", "pixels"], ["add", path, lessons]):
        assert CliRunner().invoke(app, [str(each) for each in arguments]).exit_code == 0
    return path


@pytest.fixture
def memory(taught, tmp_path):
    """A memory of the lessons for this test alone: ids 0 to 3 are blue, 4 to 7 red."""
    return shutil.copytree(taught, tmp_path / "colors")


@pytest.fixture
def process():
    """Start the command line as a process of its own."""

    def start(*arguments, code="sys.exit(main())"):
        script = f"import sys; from recollect.cli import main; {code}"
        return subprocess.Popen(
            [sys.executable, "-c", script, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
        )

    return start

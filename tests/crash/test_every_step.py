"""kill -9 at every step of every write: the old memory, or the new one, never between."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from crash.stepwise import FROM_FORMAT_1, WRITES, look, make_template

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("write", "form"),
    [(write, "newest") for write in WRITES] + [(write, "format 1") for write in FROM_FORMAT_1],
)
def test_a_write_killed_at_any_step_is_there_wholly_or_not_at_all(write, form, tmp_path):
    """The commit is the only moment that counts; every other step may be the last one."""
    template = tmp_path / "template"
    make_template(template, write, form)
    before = look(template)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")]),
        "OPENBLAS_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "crash.stepwise", write, str(template), str(tmp_path)],
        env=environment, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    steps = done.stdout.splitlines()

    seen = [look(tmp_path / str(number)) for number in range(len(steps))]

    assert steps[-1] == "through"
    after = seen[-1]
    assert after != before
    commit = next(at for at, state in enumerate(seen) if state != before)
    assert seen == [before] * commit + [after] * (len(steps) - commit)
    assert steps[commit - 1] == "COMMIT"

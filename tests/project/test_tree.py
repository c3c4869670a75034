"""Nothing in the tree works on one machine only."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("src", "tests", "docs", "benchmarks", "examples", ".ci")
ENDINGS = {".py", ".md", ".toml", ".txt", ".json", ".yml", ".yaml", ".html", ".sh", ""}
# Absolute paths of one person's or one machine's folders.
MACHINE_PATH = re.compile(r"(?<![\w.\])}])/(?:work|home|Users|root|mnt|srv)/\w")


def texts():
    files = [path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"]
    files += [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    readable = [
        path for path in files if path.suffix in ENDINGS and "__pycache__" not in path.parts
    ]
    return {
        path.relative_to(ROOT).as_posix(): path.read_text("utf-8", "replace") for path in readable
    }


def test_no_file_names_a_path_of_one_machine():
    """Such a path works for its author only, and tells about their machine."""
    assert [name for name, text in texts().items() if MACHINE_PATH.search(text)] == []


def test_the_readme_names_the_two_commands_that_set_everything_up():
    """A newcomer types these and nothing else; continuous integration calls the second."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    assert "make demo\n" in readme
    assert "make test\n" in readme
    assert "make test\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")

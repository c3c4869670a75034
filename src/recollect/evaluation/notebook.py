"""A notebook of measurements: what was measured is written down at once, and not measured again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recollect.evaluation.earlier import not_ours


@dataclass
class Notebook:
    """Results that are kept as they come, so that an interrupted run goes on where it was.

    Args:
        path: A file of JSON lines; None keeps nothing on the disk. A last line that was cut off
            counts as not written.
        progress: Called as ``progress(done, total)``.
        total: How many results there will be.

    Attributes:
        done: Each result by its name, with the seconds it took.
        until: No measurement begins after this moment of ``time.monotonic``.

    Raises:
        InputError: The file holds something else.

    Example:
        >>> book = Notebook(None)
        >>> book.note("two and two", lambda: 2 + 2)
        4
        >>> book.note("two and two", lambda: 1 / 0)
        4
    """

    path: Path | None
    progress: Callable[[int, int], object] | None = None
    total: int = 1
    done: dict[str, Any] = field(default_factory=dict)
    until: float = float("inf")
    asked: set[str] = field(default_factory=set)

    @property
    def seconds(self) -> float:
        """How long the results that were asked for took to measure."""
        return float(sum(self.done[key]["seconds"] for key in self.asked & self.done.keys()))

    def __post_init__(self) -> None:
        if self.path is None or not self.path.exists():
            return
        try:
            text = self.path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise not_ours(self.path, "lines of JSON", str(error)) from error
        whole = text[: text.rfind("\n") + 1]
        for number, line in enumerate(whole.splitlines(), 1):
            key, result = self._read(number, line)
            self.done[key] = result
        if whole != text:
            if not text[len(whole) :].startswith('["'[: len(text) - len(whole)]):
                raise not_ours(self.path, "lines of JSON", f"at its end: {text[-60:]}")
            self.path.write_text(whole, encoding="utf-8")

    def _read(self, number: int, line: str) -> tuple[str, dict[str, Any]]:
        """Name and result of one line."""
        assert self.path is not None
        try:
            told = json.loads(line)
        except (ValueError, RecursionError):
            told = None
        if not (
            isinstance(told, list)
            and [type(each) for each in told] == [str, dict]
            and "result" in told[1]
            and type(told[1].get("seconds")) in (int, float)
        ):
            expected = '["name", {"result": ..., "seconds": ...}]'
            raise not_ours(self.path, expected, f"line {number}: {line[:60]}")
        return told[0], told[1]

    def note(self, key: str, measure: Callable[[], Any]) -> Any:
        """Return the result of this name, measured now unless it was before.

        Raises:
            TimeoutError: It was not, and time is up.
        """
        self.asked.add(key)
        if key not in self.done:
            if time.monotonic() > self.until:
                raise TimeoutError
            begun = time.perf_counter()
            result = measure()
            self.done[key] = {"result": result, "seconds": round(time.perf_counter() - begun, 2)}
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([key, self.done[key]]) + "\n")
        if self.progress is not None:
            self.progress(min(len(self.done), self.total), self.total)
        return self.done[key]["result"]

    def close(self) -> None:
        """Forget what was kept: the run came to its end, and the next one measures anew."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

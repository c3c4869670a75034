"""How a memory's searches are to be answered: exactly, or by lists with a recall that is held."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from recollect.errors import InvalidParameter

Storage: TypeAlias = Literal["8bit", "flat"]


@dataclass(frozen=True, slots=True)
class Approximate:
    """Search most rows by not looking at them: inverted lists, whose recall is measured and held.

    Rows are grouped around centers; a search looks into the groups nearest to the query, takes the
    best candidates there, and gives each its similarity as an exact search does. What it names is
    alive and rightly scored; what it can do is miss a row. How many lists it looks into is tuned
    on the memory's own rows: each row of a sample asks for its neighbors but itself, and the
    share of them that is found must reach ``recall``.

    Args:
        recall: Share of the true k nearest rows to be found, on average over queries like the
            rows; from 0.5 to 0.9999.
        storage: What the lists keep of a key: ``"8bit"``, one byte a number, for memory in
            RAM of a quarter of the keys; or ``"flat"``, all of it.
        least: With fewer rows every search is exact. 50,000 rows of 384 numbers take 3 ms.
        lists: How many groups; None for four times the square root of the rows.
        sample: Rows that are asked when recall is measured.
        background: Train and measure in a thread of its own while searches are exact; False
            does it within the search that finds it due.
        seed: Of the samples and of the grouping.

    Raises:
        InvalidParameter: An option is out of range.

    Example:
        >>> Approximate(recall=0.95).storage
        '8bit'
    """

    recall: float = 0.99
    storage: Storage = "8bit"
    least: int = 50_000
    lists: int | None = None
    sample: int = 512
    background: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        number = isinstance(self.recall, (int, float)) and not isinstance(self.recall, bool)
        if not (number and 0.5 <= self.recall <= 0.9999):
            raise _refusal("recall", "a number from 0.5 to 0.9999", self.recall)
        if self.storage not in get_args(Storage):
            raise _refusal("storage", "'8bit' or 'flat'", self.storage)
        whole = {"least": self.least, "sample": self.sample, "seed": self.seed}
        whole |= {} if self.lists is None else {"lists": self.lists}
        for name, given in whole.items():
            low = 0 if name == "seed" else 1
            if type(given) is not int or not low <= given < 1 << 31:
                raise _refusal(name, f"a whole number from {low}", given)
        if not isinstance(self.background, bool):
            raise _refusal("background", "True or False", self.background)


Policy: TypeAlias = Approximate | Literal["exact", "approximate"]


def as_policy(search: object) -> Approximate | None:
    """Return the policy that an argument asks for; None stands for exact search.

    Raises:
        InvalidParameter: It asks for nothing that is known.

    Example:
        >>> as_policy("exact") is None, as_policy("approximate").recall
        (True, 0.99)
    """
    if search == "exact":
        return None
    if search == "approximate":
        return Approximate()
    if isinstance(search, Approximate):
        return search
    raise _refusal("search", "'exact', 'approximate' or recollect.Approximate(...)", search)


def _refusal(name: str, expected: str, got: object) -> InvalidParameter:
    return InvalidParameter(f"{name} is out of range", expected=expected, got=f"{got!r:.80}")

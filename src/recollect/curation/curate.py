"""One report of what may be wrong with a memory, and the changes it proposes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from recollect.curation.duplicates import NEAR, Duplicates, find_duplicates
from recollect.curation.suspects import Harmful, Suspect, find_harmful, find_suspects
from recollect.errors import EmptyMemory, InvalidParameter
from recollect.heads.peers import Peers
from recollect.memory.leave_one_out import Progress
from recollect.memory.memory import Memory
from recollect.readout.voting import VoteRule
from recollect.types import Label

Remedy = Literal["relabel", "mute", "remove"]

FEW = 5
"""Rows below which a class is reported as too small to be answered reliably."""


@dataclass(frozen=True, slots=True)
class CurationReport:
    """What may be wrong with the rows of one version of a memory.

    Attributes:
        version: The version that was looked at.
        rows: Rows it has.
        asked: Rows that were asked about; fewer than ``rows`` in a memory of more than 65,536.
        suspects: Rows whose label is contradicted, the most doubtful first.
        harmful: Rows that did more harm than good, the worst first.
        duplicates: Groups of the same rows, then of nearly the same.
        small_classes: Labels with few rows, and how many they have.
    """

    version: int
    rows: int
    asked: int
    suspects: tuple[Suspect, ...]
    harmful: tuple[Harmful, ...]
    duplicates: tuple[Duplicates, ...]
    small_classes: dict[Label, int]

    @property
    def redundant(self) -> tuple[int, ...]:
        """Ids of exact duplicates that could go: all but the first of those with one label."""
        spare: list[int] = []
        for group in self.duplicates:
            if group.exact:
                seen: set[Label] = set()
                for row, label in zip(group.ids, group.labels, strict=True):
                    if label in seen:
                        spare.append(row)
                    seen.add(label)
        return tuple(sorted(spare))


def inspect_rows(
    memory: Memory,
    *,
    rule: VoteRule | None = None,
    k: int = 20,
    near: float = NEAR,
    few: int = FEW,
    progress: Progress | None = None,
) -> CurationReport:
    """Ask all rows about each other and report what looks wrong; no row is changed.

    In a durable memory that is open for writing, the comparison is kept in its cache.

    Args:
        memory: Of labels, with two rows or more.
        rule: The vote by which harm is judged; rank voting when None.
        k: How many neighbors vote, 1 to 100.
        near: Cosine from which on rows count as nearly the same.
        few: Rows below which a class is reported.
        progress: Called as ``progress(done, total)`` while rows are compared.

    Returns:
        The report.

    Raises:
        EmptyMemory: There are fewer than two rows.
        InvalidParameter: The memory holds no labels, or an option is out of range.

    Example:
        >>> memory = Memory.create(":memory:", dim=2)
        >>> _ = memory.add([[1, 0], [1, 0.1], [1, 0.2], [1, 0.1]], ["a", "a", "a", "b"])
        >>> report = inspect_rows(memory)
        >>> [suspect.id for suspect in report.suspects], report.small_classes
        ([3], {'a': 3, 'b': 1})
    """
    _check_kinds((memory, Memory))
    if not (rule is None or isinstance(rule, VoteRule)):
        raise InvalidParameter(
            "this is no vote rule", expected="a VoteRule or None", got=repr(rule)[:80],
            remedy="Make one: recollect.readout.voting.VoteRule('rank').",
        )  # fmt: skip
    if not (progress is None or callable(progress)):
        raise InvalidParameter(
            "progress cannot be called", expected="a callable or None", got=repr(progress)[:80],
            remedy="Leave it out, or pass a function of (done, total).",
        )  # fmt: skip
    peers, by = Peers(memory), VoteRule() if rule is None else rule
    report = memory.in_one_version(lambda: _report(peers, by, k, near, few, progress))
    peers.keep()
    return report


def _report(
    peers: Peers, rule: VoteRule, k: int, near: float, few: int, progress: Progress | None
) -> CurationReport:
    memory = peers.memory
    _check(memory, k, near, few)
    table = peers.follow(progress)
    harmful = find_harmful(peers, rule, min(k, len(memory) - 1))
    return CurationReport(
        version=memory.version,
        rows=len(memory),
        asked=len(table),
        suspects=tuple(find_suspects(peers)),
        harmful=tuple(harmful),
        duplicates=tuple(find_duplicates(peers, near=near)),
        small_classes={
            label: count for label, count in memory.label_counts().items() if count < few
        },
    )


def apply_report(
    memory: Memory, report: CurationReport, remedy: Remedy, *, duplicates: bool = False
) -> int:
    """Carry out what a report proposes as one version; the one before brings everything back.

    Args:
        memory: The memory that was reported on, unchanged since.
        report: What ``inspect_rows`` found; leave rows out of it with ``dataclasses.replace``.
        remedy: What to do with suspects: ``"relabel"`` them as suggested, ``"mute"`` them with
            weight 0, or ``"remove"`` them.
        duplicates: Whether to remove exact duplicates with one label too, all but the first. The
            first meets the remedy if it is a suspect itself: with ``"remove"`` none stays then.

    Returns:
        How many rows were changed or removed.

    Raises:
        InvalidParameter: The memory has changed since, the remedy is not known, or this is no
            memory and no report.
    """
    _check_kinds((memory, Memory), (report, CurationReport))
    if remedy not in get_args(Remedy):
        raise InvalidParameter(
            "the remedy is not known",
            expected=f"one of {', '.join(get_args(Remedy))}",
            got=repr(remedy),
            remedy="`mute` keeps the rows and takes away their vote.",
        )
    if memory.version != report.version:
        raise InvalidParameter(
            "the memory has changed since it was reported on",
            expected=f"version {report.version}",
            got=f"version {memory.version}",
            remedy="Call inspect_rows again.",
        )
    spare = set(report.redundant) if duplicates else set()
    suspects = [one for one in report.suspects if one.id not in spare]
    ids = np.array([one.id for one in suspects], np.int64)
    if remedy == "remove":
        spare |= set(ids.tolist())
    going = np.array(sorted(spare), np.int64)
    if remedy == "remove" or not len(ids):
        if len(going):
            memory.remove(going)
        return len(going)
    if remedy == "relabel":
        memory.update(ids, values=[one.suggested for one in suspects], remove=going)
    else:
        memory.update(ids, weights=np.zeros(len(ids)), remove=going)
    return len(ids) + len(going)


def _check_kinds(*wanted: tuple[object, type]) -> None:
    for thing, kind in wanted:
        if not isinstance(thing, kind):
            raise InvalidParameter(
                f"this is no {kind.__name__}",
                expected=f"a {kind.__name__}",
                got=type(thing).__name__,
                remedy="Of an estimator, pass its memory_; inspect_rows(memory) makes a report.",
            )


def _check(memory: Memory, k: int, near: float, few: int) -> None:
    if memory.value != "label":
        raise InvalidParameter(
            "curation is about labels", expected="value='label'", got=f"value={memory.value!r}",
            remedy="Only rows with labels can contradict each other.",
        )  # fmt: skip
    if len(memory) < 2:
        raise EmptyMemory(
            "one row cannot be asked about others",
            expected="at least two rows",
            got=len(memory),
            remedy="Teach more rows first.",
        )
    for name, value, inside, words in (
        ("k", k, _whole(k) and 1 <= k <= 100, "an integer from 1 to 100"),
        ("near", near, _whole(near, np.floating, float) and -1 <= near <= 1, "a cosine"),
        ("few", few, _whole(few) and few >= 0, "an integer of 0 or more"),
    ):
        if not inside:
            raise InvalidParameter(
                f"{name} is out of range", expected=words, got=repr(value),
                remedy=f"Leave {name} at its default.",
            )  # fmt: skip


def _whole(value: object, *more: type) -> bool:
    return isinstance(value, (int, np.integer, *more)) and not isinstance(value, bool)

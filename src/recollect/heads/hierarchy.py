"""Labels with ancestors: a vote at every level, and the most specific answer that is sure enough.

Geirhos et al. (section 3.5) take the ancestor of the nearest row's label. Here the neighbors vote
at each level, with the weights of the classifier: species of one genus vote together.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InputError, InvalidLabel, InvalidParameter
from recollect.memory.checks import UNREADABLE, as_doubles
from recollect.readout.voting import label_shares, vote, vote_shares
from recollect.types import Codes, Doubles, Label, Neighbors

if TYPE_CHECKING:
    from recollect.heads.visual_memory import MemoryClassifier


@dataclass(frozen=True, slots=True)
class LevelAnswers:
    """The answers at every level, and the one that is given.

    Attributes:
        levels: Names of the levels, most general first.
        labels: Object array ``(queries, levels)``: the winner at each level.
        confidence: float64 ``(queries, levels)``: its share of the vote at that level.
        level: int64 ``(queries,)``: the most specific level whose confidence passes; -1 if none.
        answers: Object array ``(queries,)``: the label at that level, or None.
    """

    levels: tuple[str, ...]
    labels: NDArray[Any]
    confidence: Doubles
    level: Codes
    answers: NDArray[Any]


class Hierarchy:
    """Which ancestors each label has.

    Args:
        ancestors: Label -> its ancestor, or its ancestors from the most general on. All labels have
            equally many.
        levels: Names of the levels, most general first, that of the labels themselves last.

    Raises:
        InvalidParameter: Labels with different numbers of ancestors, or as many names as fit not.

    Example:
        >>> from recollect import MemoryClassifier
        >>> kinds = Hierarchy({"cat": "mammal", "dog": "mammal", "carp": "fish"})
        >>> pets = MemoryClassifier(k=3, vote="plurality")
        >>> pets = pets.fit([[1, 0], [1, 0.1], [0, 1]], ["cat", "dog", "carp"])
        >>> found = kinds.answer(pets, [[1, 0.04]], confidence=0.6)
        >>> found.labels.tolist(), found.answers.tolist()
        ([['mammal', 'cat']], ['mammal'])
    """

    def __init__(
        self,
        ancestors: Mapping[Label, Label | Sequence[Label]],
        *,
        levels: Sequence[str] | None = None,
    ) -> None:
        if not isinstance(ancestors, Mapping):
            raise _no_hierarchy(ancestors)
        paths = {_name(label): (*_up(up), _name(label)) for label, up in ancestors.items()}
        depths = {len(path) for path in paths.values()}
        if len(depths) != 1 or depths == {1}:
            raise InvalidParameter(
                "the labels do not all lie equally deep",
                expected="at least one ancestor for each label, equally many for all",
                got=f"{sorted(depth - 1 for depth in depths)} ancestors",
                remedy="Repeat an ancestor where a level is missing.",
            )
        depth = depths.pop()
        names = _level_names(levels, depth)
        self.levels: tuple[str, ...] = names
        self._paths: dict[Label, tuple[Label, ...]] = paths
        self._written = False  # labels are text because a file holds nothing else

    @classmethod
    def from_csv(cls, path: str | Path) -> Hierarchy:
        r"""Read a hierarchy from a CSV file: a column for each level, the labels in the last one.

        A memory of integers finds its labels by the digits in the file. Spaces around a cell do
        not count.

        Args:
            path: A file whose first line names the levels, most general first.

        Raises:
            InputError: There is no such file, or it holds no hierarchy.

        Example:
            >>> import tempfile
            >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
            ...     _ = file.write("kind, pet\nmammal, 7\n")
            ...     file.flush()
            ...     Hierarchy.from_csv(file.name).path(7)
            ('mammal', 7)
        """
        try:
            place = Path(path)
            with place.open(encoding="utf-8-sig", newline="") as lines:
                read = [[cell.strip() for cell in line] for line in csv.reader(lines)]
                head, *rows = [line for line in read if any(line)]
        except (OSError, UnicodeDecodeError, csv.Error, ValueError, TypeError) as error:
            raise InputError(
                f"{path} holds no hierarchy", expected="a CSV file with a line of names",
                got=str(error)[:100], remedy="Write one column for each level, labels last.",
            ) from error  # fmt: skip
        ancestors: dict[Label, Label | Sequence[Label]] = {}
        for number, row in enumerate(rows, start=2):
            whole = len(row) == len(head) and all(row)
            if not whole or ancestors.get(row[-1], row[:-1]) != row[:-1]:
                raise InputError(
                    f"line {number} of {place} cannot be used",
                    expected=f"{len(head)} cells that are not empty, one path for each label",
                    got=", ".join(row)[:100],
                    remedy="Give each label one path.",
                )
            ancestors[row[-1]] = row[:-1]
        made = cls(ancestors, levels=head)
        made._written = True
        return made

    def path(self, label: Label) -> tuple[Label, ...]:
        """The ancestors of a label from the most general on, and the label itself.

        Raises:
            InvalidLabel: The hierarchy does not know it.
        """
        if not isinstance(label, str | int | np.integer):
            raise self._unknown(label)
        written = str(label)
        if self._written and isinstance(label, int | np.integer) and written in self._paths:
            return (*self._paths[written][:-1], int(label))
        if label not in self._paths:
            raise self._unknown(label)
        return self._paths[label]

    def _unknown(self, label: object) -> InvalidLabel:
        return InvalidLabel(
            "the hierarchy does not know a label",
            expected=f"one of its {len(self._paths)} labels",
            got=repr(label)[:80],
            remedy="Add its ancestors to the hierarchy.",
        )

    def answer(
        self, classifier: MemoryClassifier, X: Any, *, confidence: float | Sequence[float] = 0.5
    ) -> LevelAnswers:
        """Answer at every level, and back off to the most specific one that is sure enough.

        Args:
            classifier: A classifier that was taught; its vote and k are used, and its class means
                if they have a part in its answers.
            X: Queries, as for its ``predict``; None asks each row of the memory without itself.
            confidence: Share that an answer needs; one for all levels, or one for each.

        Raises:
            InvalidLabel: The memory holds a label that the hierarchy does not know.
            InvalidParameter: A confidence outside of [0, 1], or this is no classifier.
        """
        wanted = _thresholds(confidence, len(self.levels))
        _check_classifier(classifier)
        if classifier.class_means == 0:
            labels, shares = self.vote(*classifier.votes(X))
        else:
            labels, shares = self.add_up(*classifier.shares(X))
        passes = shares >= wanted
        levels = np.arange(len(self.levels))
        level = np.where(passes, levels, -1).max(axis=1)
        answers = labels[np.arange(len(labels)), level]
        answers[level < 0] = None
        return LevelAnswers(self.levels, labels, shares, level, answers)

    def vote(self, near: Neighbors, weights: Doubles) -> tuple[NDArray[Any], Doubles]:
        """Count the votes at every level.

        Args:
            near: Neighbors with codes.
            weights: float64 ``(queries, k)``: what each vote weighs.

        Returns:
            Winners, object ``(queries, levels)``, and their shares of the vote, float64. Ties are
            broken as in every vote: the first to reach the winning total.
        """
        assert near.classes is not None
        assert near.codes is not None
        paths = [self.path(label) for label in near.classes.tolist()]
        shares = vote_shares(weights)
        winners = np.empty((len(near), len(self.levels)), object)
        confidence = np.empty(winners.shape)
        for level in range(len(self.levels)):
            names, codes_of = _coded([path[level] for path in paths])
            codes = np.append(codes_of, -1)[near.codes]  # -1 where empty takes the last
            best = vote(codes, weights)
            winners[:, level] = np.array([*names, None], object)[best]
            totals = label_shares(codes, shares, len(names))
            confidence[:, level] = totals[np.arange(len(best)), best]
        return winners, confidence

    def add_up(self, classes: NDArray[Any], shares: Doubles) -> tuple[NDArray[Any], Doubles]:
        """Add the shares of the labels below each name, at every level.

        Args:
            classes: ``(classes,)``. Labels.
            shares: float64 ``(queries, classes)``, as ``predict_proba`` gives them.

        Returns:
            Winners and their shares, as ``vote`` gives them. Of equal shares the name that has the
            first label wins, as in ``predict`` with class means.
        """
        paths = [self.path(label) for label in classes.tolist()]
        winners = np.empty((len(shares), len(self.levels)), object)
        confidence = np.empty(winners.shape)
        for level in range(len(self.levels)):
            names, codes = _coded([path[level] for path in paths])
            totals = np.zeros((len(shares), len(names)))
            for code, column in zip(codes.tolist(), shares.T, strict=True):
                totals[:, code] += column
            best = np.where(totals.any(axis=1), totals.argmax(axis=1), -1)
            winners[:, level] = np.array([*names, None], object)[best]
            confidence[:, level] = totals.max(axis=1)
        return winners, confidence

    def calibrate(
        self, classifier: MemoryClassifier, *, accuracy: float | Sequence[float] = 0.9
    ) -> tuple[float, ...]:
        """Choose the confidence for each level on the memory's own rows, each left out.

        Args:
            classifier: A classifier that was taught.
            accuracy: How often answers given at a level shall be right; one for all, or one for
                each.

        Returns:
            For each level the smallest confidence at which the rows that are answered there, which
            no more specific level answers, are right so often; above 1 if none is, so that the
            level is never answered.
        """
        wanted = _thresholds(accuracy, len(self.levels))
        _check_classifier(classifier)
        if classifier.class_means == 0:
            near, weights, own = classifier.own_votes()
            labels, shares = self.vote(near, weights)
        else:
            classes, of_classes, own = classifier.own_shares()
            labels, shares = self.add_up(classes, of_classes)
        truth = [self.path(label) for label in own]
        right = labels == np.array([*truth, None], object)[:-1].tolist()
        chosen = [0.0] * len(self.levels)
        left = np.ones(len(shares), bool)
        # From the most specific level up: a level answers only what those below it leave.
        for level in reversed(range(len(self.levels))):
            sure, hits = shares[left, level], right[left, level]
            chosen[level] = _least(sure, hits, float(wanted[level]))
            left &= shares[:, level] < chosen[level]
        return tuple(chosen)


def _coded(names: Sequence[Label]) -> tuple[list[Label], Codes]:
    """Different names in order of first appearance, and the place of each one given."""
    different = list(dict.fromkeys(names))
    place = {name: code for code, name in enumerate(different)}
    return different, np.array([place[name] for name in names], np.int64)


def _name(given: object) -> Label:
    """A label as a memory gives it: text or a plain integer."""
    if isinstance(given, str):
        return str(given)
    if isinstance(given, int | np.integer) and not isinstance(given, bool):
        return int(given)
    raise _no_hierarchy(given)


def _up(given: object) -> tuple[Label, ...]:
    """The ancestors of a label, however they were given."""
    if isinstance(given, list | tuple | np.ndarray) and np.ndim(given) == 1:
        return tuple(_name(one) for one in given)
    return (_name(given),)


def _no_hierarchy(got: object) -> InvalidParameter:
    return InvalidParameter(
        "this is no hierarchy",
        expected="a mapping of labels to an ancestor or a list of them, all text or integers",
        got=repr(got)[:80],
        remedy="Write {'cat': 'mammal'}, or {'cat': ['animal', 'mammal']}.",
    )


def _level_names(given: object, depth: int) -> tuple[str, ...]:
    if given is None:
        return (*(f"level {level}" for level in range(1, depth)), "label")
    names = tuple(given) if isinstance(given, list | tuple) else ()
    if len(names) != depth or not all(isinstance(name, str) for name in names) or (
        len(set(names)) != depth
    ):  # fmt: skip
        raise InvalidParameter(
            "the levels are not named one by one",
            expected=f"{depth} different names in a list",
            got=repr(given)[:80],
            remedy="Name the level of the labels too, as the last one.",
        )
    return names


def _check_classifier(given: object) -> None:
    from recollect.heads.voting_classifier import VotingClassifier

    if not isinstance(given, VotingClassifier):
        raise InvalidParameter(
            "only a vote over labels has levels",
            expected="a MemoryClassifier",
            got=type(given).__name__,
            remedy="Teach a MemoryClassifier the labels of the most specific level.",
        )


def _least(shares: Doubles, right: NDArray[np.bool_], wanted: float) -> float:
    """The smallest share such that answers of at least this share are right often enough."""
    order = np.argsort(-shares, kind="stable")
    sure, hits = shares[order], np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    ends = np.append(sure[1:] < sure[:-1], True)  # equal shares pass or fail together
    good = np.flatnonzero(ends & (hits >= wanted))
    return float(sure[good[-1]]) if len(good) else float(np.nextafter(1.0, 2.0))


def _thresholds(given: float | Sequence[float], levels: int) -> Doubles:
    try:
        wanted = np.atleast_1d(as_doubles(given))
    except UNREADABLE:
        wanted = np.array([np.nan])
    if wanted.shape not in {(1,), (levels,)} or not ((wanted >= 0) & (wanted <= 1.001)).all():
        raise InvalidParameter(
            "a confidence is out of range",
            expected=f"a number from 0 to 1, or {levels} of them",
            got=str(given)[:80],
            remedy="0.5 asks for more than half of the vote.",
        )
    return np.broadcast_to(wanted, (levels,))

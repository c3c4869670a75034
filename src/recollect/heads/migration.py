"""A new encoder for a memory: encode its sources again, compare the answers, switch in one step.

The switch is one version of the memory. `Memory.restore` of the version before it undoes it. Rows
whose source is gone keep their place: a linear map from old keys to new ones, learned on the rows
that have both, gives them a key, and their column ``aligned`` says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.encoders.base import Encoder
from recollect.encoders.batching import encode_all
from recollect.encoders.cache import EncodingCache
from recollect.errors import EmptyMemory, InvalidParameter
from recollect.memory.memory import RAM, Memory
from recollect.memory.no_return import TEXT_COLUMN
from recollect.readout.voting import VoteRule, vote, weigh
from recollect.types import Floats, Ids, Mask, Rows

ALIGNED = "aligned"
SAMPLE = 1000
BLOCK = 4096
"""Rows whose sources are read and encoded at once."""

# Ridge penalty, as a share of the mean variance of a dimension of the old keys.
RIDGE = 0.1

Fetch = Callable[[Rows, int], Any]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How the answers before and after compare, on rows that are asked about themselves.

    Attributes:
        rows: How many rows were asked.
        same: Share of them with the same answer, in [0, 1].
        accuracy_before: Share that the old keys answer with the row's own label.
        accuracy_after: Share that the new keys do.
        flips: Id, answer before and answer after of each row that is answered otherwise.
    """

    rows: int
    same: float
    accuracy_before: float
    accuracy_after: float
    flips: tuple[tuple[int, Any, Any], ...]


@dataclass(frozen=True, slots=True)
class AlignmentCost:
    """What aligned keys cost, measured on rows that have both keys and are not aligned.

    One half of the rows learns the map; the other half is asked about by the first half's real new
    keys, once under its own real new keys, once under aligned ones.

    Attributes:
        rows: How many rows were asked.
        accuracy_real: Accuracy where the other half has its real new keys.
        accuracy_aligned: Accuracy where it has aligned keys.
        cosine: Mean cosine between a real new key and the aligned one.
    """

    rows: int
    accuracy_real: float
    accuracy_aligned: float
    cosine: float


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """What a migration will do, or has done.

    Attributes:
        encoded: Rows whose source was encoded anew.
        aligned: int64, sorted: rows whose source is gone and whose key was mapped.
        agreement: Of the answers before and after, or None for a memory without labels.
        cost: Of alignment, or None where no row is aligned or too few can be compared.
        before: The version that ``Memory.restore`` takes to undo it.
        version: The version that the switch made; None before it.
    """

    encoded: int
    aligned: Ids
    agreement: Agreement | None
    cost: AlignmentCost | None
    before: int
    version: int | None = None


class Migration:
    """New keys for the rows of a memory, ready to be switched to. Made by `plan_migration`."""

    def __init__(
        self,
        memory: Memory,
        encoder: Encoder,
        keys: Floats,
        marks: list[bool] | None,
        report: MigrationReport,
    ) -> None:
        self._memory, self._encoder, self._keys, self._marks = memory, encoder, keys, marks
        self.report = report

    def switch(self, memory: Memory | None = None) -> int:
        """Give the rows their new keys, as one version; returns its number.

        Args:
            memory: The same memory opened for writing; None takes the handle that was planned with.

        Raises:
            InvalidParameter: The memory was written to since.
        """
        target = self._memory if memory is None else memory
        if target.version != self.report.before:
            raise InvalidParameter(
                "the memory was written to since the migration was planned",
                expected=f"version {self.report.before}",
                got=f"version {target.version}",
                remedy="Plan it again: what was encoded is in the cache, if there was one.",
            )
        metadata = None if self._marks is None else {ALIGNED: self._marks}
        return target.rekey(self._keys, self._encoder, metadata=metadata)


def plan_migration(
    memory: Memory,
    encoder: Encoder,
    *,
    root: str | Path | None = None,
    fetch: Fetch | None = None,
    align: bool = True,
    sample: int = SAMPLE,
    k: int = 20,
    batch_size: int = 64,
    cache: EncodingCache | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Migration:
    """Encode the sources of all rows with another encoder, and compare; nothing is written.

    Args:
        memory: Whose rows. It may be open for reading.
        encoder: The new encoder.
        root: Folder below which sources that are relative paths lie; None means where we are.
        fetch: Gives the input of a row, called as ``fetch(rows, place)``, or None if it is gone.
            None: for images the file that the row's source names, for texts its column ``text``.
        align: False refuses a memory of which some sources are gone.
        sample: How many rows are asked about themselves before and after, spread evenly.
        k: How many neighbors vote then, by rank.
        batch_size: Inputs that are encoded at once.
        cache: Where encodings are looked up and kept.
        progress: Called as ``progress(done, total)``.

    Returns:
        The plan: ``.report`` says what would change, ``.switch()`` does it.

    Raises:
        EmptyMemory: There are no rows.
        InvalidParameter: No source can be read, or some cannot and ``align`` is False.
    """
    _check(memory, encoder, root, fetch, sample, k)
    version, rows = memory.in_one_version(lambda: (memory.version, memory.rows()))
    if not len(rows):
        raise EmptyMemory("the memory is empty", remedy="Make a new one with the new encoder.")
    read = fetch or _reader(encoder, Path(root) if root is not None else Path())
    keys, there = _encoded(encoder, rows, read, {"batch_size": batch_size, "cache": cache},
                           progress)  # fmt: skip
    _check_sources(there, rows, align=align)
    cost = None
    if not there.all():
        old = rows.keys.astype(np.float32)
        keys[~there] = align_keys(old[there], keys[there], old[~there])
        cost = _cost(memory, rows, old[there], keys[there], there, sample, k)
    report = MigrationReport(
        encoded=int(there.sum()),
        aligned=rows.ids[~there],
        agreement=_agreement(memory, rows, keys, sample, k),
        cost=cost,
        before=version,
    )
    return Migration(memory, encoder, keys, _marks(rows, ~there), report)


def migrate(memory: Memory, encoder: Encoder, **options: Any) -> MigrationReport:
    """Give the rows of a memory keys of another encoder, in one step.

    Args:
        memory: Open for writing.
        encoder: The new encoder.
        **options: As for `plan_migration`.

    Returns:
        What was done; ``memory.restore(report.before)`` undoes it.

    Example:
        >>> from recollect.encoders import HashingTextEncoder
        >>> small, large = HashingTextEncoder(dim=16), HashingTextEncoder(dim=64)
        >>> texts = ["a cat asleep", "a cat awake", "dogs at play", "dogs at rest"]
        >>> memory = Memory.create(":memory:", dim=16, encoder=small)
        >>> ids = memory.add(small.encode(texts), ["cat", "cat", "dog", "dog"],
        ...                  metadata={"text": texts})
        >>> report = migrate(memory, large)
        >>> report.encoded, report.agreement.rows, memory.dim
        (4, 4, 64)
        >>> memory.restore(report.before), memory.dim
        (3, 16)
    """
    plan = plan_migration(memory, encoder, **options)
    return replace(plan.report, version=plan.switch())


def align_keys(old: NDArray[Any], new: NDArray[Any], given: NDArray[Any]) -> Floats:
    """Map keys of one encoder into the space of another by ridge regression.

    Args:
        old: ``(rows, width)``: keys of rows that have both.
        new: ``(rows, other width)``: their new keys.
        given: ``(queries, width)``: old keys of rows that have no new one.

    Returns:
        float32 ``(queries, other width)``. Old keys are scaled to length 1 and centered; the map
        predicts new keys of length 1. A key that comes out as nothing becomes the mean direction.
    """
    source, target = _unit(old), _unit(new)
    mean, goal = source.mean(axis=0), target.mean(axis=0)
    centered = source - mean
    gram = centered.T @ centered
    penalty = RIDGE * max(float(np.trace(gram)) / len(gram), np.finfo(float).tiny)
    gram[np.diag_indices_from(gram)] += penalty
    linear = np.linalg.solve(gram, centered.T @ (target - goal))
    mapped = (_unit(given) - mean) @ linear + goal
    flat = ~mapped.any(axis=1)
    mapped[flat] = goal if goal.any() else 1.0
    return np.asarray(mapped, np.float32)


def _unit(keys: NDArray[Any]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(keys.astype(np.float64), axis=1, keepdims=True)
    return np.asarray(keys / np.where(lengths > 0, lengths, 1.0), np.float64)


def _reader(encoder: Encoder, root: Path) -> Fetch:
    def text(rows: Rows, place: int) -> Any:
        """None for a row that was added without its text."""
        return rows.metadata.get(TEXT_COLUMN, [None] * len(rows))[place]

    def picture(rows: Rows, place: int) -> Any:
        """None for a row that names no file, or one that is gone."""
        source = rows.sources[place]
        if not source:
            return None
        path = root / source
        return path if path.is_file() else None

    return text if encoder.modality == "text" else picture


def _check(memory: Memory, encoder: Any, root: Any, fetch: Any, sample: Any, k: Any) -> None:
    """Refuse what would fail after hours of encoding."""
    if not isinstance(encoder, Encoder):
        raise InvalidParameter(
            "this is no encoder",
            expected="an object with dim, modality, fingerprint, spec and encode",
            got=f"{encoder!r:.80}",
            remedy="Build one with recollect.encoders, for example HogEncoder().",
        )
    if memory.metric_weights is not None:
        raise InvalidParameter(
            "the metric has a weight for each dimension of the keys",
            expected="a memory without metric_weights",
            got=f"{memory.dim} weights",
            remedy="Make a new memory with weights for the new keys.",
        )
    for name, value, inside, words in (
        ("root", root, root is None or isinstance(root, str | Path), "a path"),
        ("fetch", fetch, fetch is None or callable(fetch), "a function of rows and a place"),
        ("sample", sample, _is_count(sample), "an integer of 1 or more"),
        ("k", k, _is_count(k), "an integer of 1 or more"),
    ):
        if not inside:
            raise InvalidParameter(
                f"{name} cannot be used", expected=words, got=repr(value)[:80],
                remedy="Leave it out.",
            )  # fmt: skip


def _is_count(value: object) -> bool:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return whole and int(value) >= 1  # type: ignore[call-overload]


def _encoded(
    encoder: Encoder,
    rows: Rows,
    read: Fetch,
    how: dict[str, Any],
    progress: Callable[[int, int], object] | None,
) -> tuple[Floats, Mask]:
    """Keys of the rows whose source can be read, and which those are.

    Some thousands at a time, so that inputs and keys are never held twice.
    """
    keys = np.zeros((len(rows), encoder.dim), np.float32)
    there = np.zeros(len(rows), bool)
    for start in range(0, len(rows), BLOCK):
        block = range(start, min(start + BLOCK, len(rows)))
        inputs = {place: read(rows, place) for place in block}
        places = np.array([place for place, value in inputs.items() if value is not None], int)
        if len(places):
            found = encode_all(
                encoder, [inputs[place] for place in places.tolist()], on_error="skip", **how
            )
            kept = places[found.kept]
            keys[kept], there[kept] = found.keys, True
        if progress is not None:
            progress(block.stop, len(rows))
    return keys, there


def _marks(rows: Rows, aligned: Mask) -> list[bool] | None:
    """What the column says of each row; None where it need not say anything."""
    before = rows.metadata.get(ALIGNED, [])
    # What an earlier migration aligned and this one encoded is not aligned any more.
    told = aligned.any() or any(mark is True for mark in before)
    return aligned.tolist() if told else None


def _check_sources(there: Mask, rows: Rows, *, align: bool) -> None:
    if not there.any():
        raise InvalidParameter(
            "no source of a row can be read",
            expected="files that the sources name, or a column of texts",
            got=", ".join(str(source) for source in rows.sources[:3]),
            remedy="Pass root=, the folder below which they lie, or fetch=.",
        )
    if not align and not there.all():
        raise InvalidParameter(
            "some sources are gone",
            expected="a source for each row",
            got=f"none for {int((~there).sum())} rows, such as row {rows.ids[~there][0]}",
            remedy="Let them be aligned, or remove these rows first.",
        )


def _sampled(count: int, sample: int) -> Ids:
    return np.unique(np.linspace(0, count - 1, min(count, sample)).astype(np.int64))


def _agreement(memory: Memory, rows: Rows, keys: Floats, sample: int, k: int) -> Agreement | None:
    if memory.value != "label" or len(rows) < 2:
        return None
    asked = _sampled(len(rows), sample)
    before = _answers(memory, memory.dtype.name, rows.keys, rows, asked, k)
    after = _answers(memory, memory.dtype.name, keys, rows, asked, k)
    truth = rows.values[asked]
    differ = np.flatnonzero(before != after)
    flips = zip(
        rows.ids[asked[differ]].tolist(), before[differ].tolist(), after[differ].tolist(),
        strict=True,
    )  # fmt: skip
    return Agreement(
        rows=len(asked),
        same=float((before == after).mean()),
        accuracy_before=float((before == truth).mean()),
        accuracy_after=float((after == truth).mean()),
        flips=tuple(flips),
    )


def _answers(
    memory: Memory, dtype: str, keys: NDArray[Any], rows: Rows, asked: Ids, k: int
) -> NDArray[Any]:
    """Answers of rows about themselves, each left out, under given keys."""
    with Memory.create(RAM, dim=keys.shape[1], metric=memory.metric, dtype=dtype) as trial:
        trial.add(keys, rows.values, ids=rows.ids, weights=rows.weights)
        ids = rows.ids[asked]
        near = trial.search(trial.rows(ids).keys, min(k, len(rows) - 1), exclude=ids)
        return _vote(near, memory)


def _vote(near: Any, memory: Memory) -> NDArray[Any]:
    weights = weigh(near, VoteRule("rank"), memory.metric)
    found: NDArray[Any] = near.classes[vote(near.codes, weights)]
    return found


def _cost(
    memory: Memory,
    rows: Rows,
    old: NDArray[Any],
    new: Floats,
    there: Mask,
    sample: int,
    k: int,
) -> AlignmentCost | None:
    if memory.value != "label" or len(old) < 4:
        return None
    # Drawn, because rows often come in some order; always alike, so that a report can be repeated.
    order = np.random.default_rng(0).permutation(len(old))
    first, second = np.sort(order[::2]), np.sort(order[1::2])
    aligned = align_keys(old[first], new[first], old[second])
    labels = rows.values[there]
    asked = first[_sampled(len(first), sample)]
    right = []
    for keys in (new[second], aligned):
        with Memory.create(RAM, dim=new.shape[1], metric=memory.metric) as trial:
            trial.add(keys, labels[second])
            answers = _vote(trial.search(new[asked], min(k, len(second))), memory)
        right.append(float((answers == labels[asked]).mean()))
    cosine = float((_unit(aligned) * _unit(new[second])).sum(axis=1).mean())
    return AlignmentCost(len(asked), right[0], right[1], cosine)

"""The steps of the demo. Each does one thing to the memory, measures it, and says so."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from recollect.evaluation import metrics
from recollect.evaluation.page import Answer, Step
from recollect.evaluation.pictures import Pictures
from recollect.readout.voting import VoteRule, label_shares, vote_shares, weigh
from recollect.types import Doubles, Explanation, Floats, Ids, Mask

if TYPE_CHECKING:
    from recollect.encoders.base import Encoder
    from recollect.heads.visual_memory import MemoryClassifier
    from recollect.memory.memory import Memory

EXAMPLES = 5
"""How many pictures teach the new class."""

CLOSE_CALLS = 25
"""Among how many of the least sure answers a close call is looked for."""


LINE_WIDTH = 92


@dataclass(frozen=True, slots=True)
class Taught:
    """Encoded pictures of the training folder.

    Attributes:
        keys: float32 ``(rows, dim)``.
        labels: Object array ``(rows,)`` of str.
        sources: Where each came from.
        files: Bytes of each file.
    """

    keys: Floats
    labels: NDArray[Any]
    sources: list[str]
    files: list[bytes]

    def take(self, which: Ids) -> Taught:
        """Some of the rows, in this order."""
        return Taught(
            self.keys[which],
            self.labels[which],
            [self.sources[at] for at in which],
            [self.files[at] for at in which],
        )


class Story:
    """The memory, the questions to it, and what was told so far."""

    def __init__(
        self,
        memory: Memory,
        classifier: MemoryClassifier,
        pictures: Pictures,
        echo: Callable[[str], object],
    ) -> None:
        self.memory, self.classifier = memory, classifier
        self.pictures, self.echo = pictures, echo
        self.steps: list[Step] = []
        self.facts: dict[str, Any] = {}
        self.taught: Taught
        self.queries: Floats
        self.truth: NDArray[Any]
        self.files: list[str]
        self.late: str
        self.explained: tuple[bytes, Explanation, dict[int, bytes]]

    @classmethod
    def begin(
        cls, uri: Path, pictures: Pictures, encoder: Encoder, echo: Callable[[str], object]
    ) -> Self:
        """Make the memory and encode the pictures; nothing is taught yet."""
        from recollect.encoders import encode_all
        from recollect.heads.visual_memory import MemoryClassifier
        from recollect.memory.memory import Memory
        from recollect.memory.sources import read_folder

        memory = Memory.create(uri, dim=encoder.dim, encoder=encoder)
        story = cls(memory, MemoryClassifier(memory=memory), pictures, echo)
        begun = time.perf_counter()
        teach, ask = read_folder(pictures.teach), read_folder(pictures.ask)
        keys = encode_all(encoder, teach.inputs).keys
        story.queries = encode_all(encoder, ask.inputs).keys
        files = [Path(path).read_bytes() for path in teach.inputs]
        story.taught = Taught(keys, np.array(teach.labels, object), teach.sources, files)
        story.truth, story.files = np.array(ask.labels, object), list(ask.inputs)
        # A rule, not a choice: the first class by name is the one that comes later.
        story.late = min(teach.labels or [""])
        story.facts["encode_seconds"] = round(time.perf_counter() - begun, 2)
        return story

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.memory.close()

    @property
    def old(self) -> Mask:
        """Which questions are about the classes that were taught first."""
        return np.asarray(self.truth != self.late, bool)

    def tell(self, title: str, lines: list[str], *answers: Answer, **facts: Any) -> None:
        """Say what a step did, and keep it for the page and the figures."""
        self.steps.append(Step(title, tuple(lines), answers))
        self.facts |= facts
        self.echo("")
        self.echo(f"{len(self.steps)}  {title}")
        for line in lines:
            for part in wrap(line, LINE_WIDTH, subsequent_indent="  " if line[0] == " " else ""):
                self.echo(f"   {part}")

    def accuracy(self, which: Mask) -> float:
        """Accuracy on some of the questions, now."""
        return metrics.accuracy(self.truth[which], self.classifier.predict(self.queries[which]))

    def why(self, query: int) -> Explanation:
        """Explain the answer to one question."""
        [explanation] = self.classifier.explain(self.queries[query : query + 1])
        return explanation

    def answer(self, query: int, why: Explanation) -> Answer:
        """Put an explanation beside its pictures."""
        words = f"Asked: {self.name(query)}, in truth '{self.truth[query]}'."
        return Answer(words, Path(self.files[query]).read_bytes(), why, self.shown(why))

    def shown(self, why: Explanation) -> dict[int, bytes]:
        """Pictures of the rows behind an answer, from the memory."""
        found = {row.id: self.memory.thumbnail(row.id) for row in why.evidence}
        return {row: picture for row, picture in found.items() if picture is not None}

    def label_of(self, row: int) -> Any:
        """The label that a row has now."""
        return self.memory.rows([row]).values[0]

    def name(self, query: int) -> str:
        """Short name of the picture that was asked about."""
        path = Path(self.files[query])
        return "/".join(path.parts[-3:])


def teach(story: Story) -> None:
    """Teach every class but one."""
    labels = story.taught.labels
    rows = story.taught.take(np.flatnonzero(labels != story.late))
    begun = time.perf_counter()
    story.memory.add(
        rows.keys, rows.labels.tolist(), sources=rows.sources, thumbnails=rows.files
    )
    seconds = time.perf_counter() - begun
    classes, encoding = len(set(labels.tolist())), story.facts["encode_seconds"]
    story.tell(
        "Teach",
        [
            f"{len(labels):,} {story.pictures.name} lie in {story.pictures.teach}.",
            f"{classes - 1} of {classes} classes are taught; '{story.late}' is kept for later.",
            f"Encoding them, and {len(story.truth):,} to ask about, took {encoding:.1f} s: "
            f"{story.memory.dim} numbers each.",
            f"Writing {len(rows.labels):,} rows to {story.memory.uri} took {seconds:.2f} s. "
            "There was no training run.",
        ],
        pictures=story.pictures.name,
        encoder=story.memory.encoder,
        dim=story.memory.dim,
        rows=len(rows.labels),
        queries=len(story.truth),
        late=story.late,
        write_seconds=round(seconds, 3),
    )


def ask(story: Story) -> None:
    """Ask about pictures that were never taught."""
    asked = int(story.old.sum())
    begun = time.perf_counter()
    right = story.accuracy(story.old)
    seconds = time.perf_counter() - begun
    error = metrics.standard_error(right, asked)
    story.tell(
        "Ask",
        [
            f"Of {asked:,} pictures of these classes that it has never seen, {_percent(right)} are "
            f"answered right (standard error {_percent(error)}).",
            f"Each answer is a vote of the {story.classifier.k} nearest rows and took "
            f"{1000 * seconds / asked:.2f} ms.",
        ],
        accuracy=right,
        accuracy_standard_error=error,
        answer_milliseconds=round(1000 * seconds / asked, 3),
    )


def explain(story: Story) -> None:
    """Explain the right answer that was the closest call."""
    query = _close_calls(story)[0]
    why = story.why(query)
    answer = story.answer(query, why)
    story.explained = (answer.query, why, dict(answer.pictures))
    votes = ", ".join(f"'{label}' {_percent(share)}" for label, share in why.shares.items())
    story.tell(
        "Explain",
        [
            f"The least sure of the right answers: {story.name(query)} is '{why.prediction}'. "
            "The rows behind it, nearest first:",
            *[
                f"  row {row.id}: '{row.value}', similarity {row.similarity:.2f}, "
                f"{_percent(float(row.contribution))} of the vote, {row.source}"
                for row in why.evidence[:3]
            ],
            f"  and {max(len(why.evidence) - 3, 0)} more. The votes: {votes}.",
            _flip_in_words(why),
        ],
        answer,
        explained=story.name(query),
        explained_score=float(why.score),
        flip_rows=[int(row) for row in why.counterfactual],
        flip_answer=why.changed_to,
    )


def correct(story: Story) -> None:
    """Plant a wrong label that breaks an answer, find it through the answer, and correct it."""
    query, row, wrong = _plant_mistake(story)
    why = story.why(query)
    suspect, own_share = _suspect(story, why)
    true_label = story.label_of(row)
    story.memory.update([row], values=[wrong])
    why = story.why(query)
    suspect, own_share = _suspect(story, why)
    lines = [
        f"Somebody labels row {row} '{wrong}' instead of '{true_label}'. Now {story.name(query)} "
        f"is answered '{why.prediction}', which is wrong.",
        f"Each row behind that answer that says '{why.prediction}' is asked about itself, without "
        f"itself: row {suspect} has the least support for its label, {_percent(own_share)}.",
    ]
    if suspect != row:
        lines.append(f"That is not the row (it is {row}); a person would look at the next ones.")
    story.memory.update([row], values=[true_label])
    after = story.why(query)
    lines.append(f"Its label is corrected. The very next answer is '{after.prediction}'.")
    story.tell(
        "Correct a label",
        lines,
        story.answer(query, why),
        corrected_row=int(row),
        suspect_row=int(suspect),
        suspect_found=bool(suspect == row),
        answer_before_correction=why.prediction,
        answer_after_correction=after.prediction,
        truth_of_corrected=str(story.truth[query]),
    )


def extend(story: Story) -> None:
    """Teach the class that was kept back, from five pictures."""
    new = ~story.old
    before, old_before = story.accuracy(new), story.accuracy(story.old)
    rows = story.taught.take(np.flatnonzero(story.taught.labels == story.late)[:EXAMPLES])
    # Few rows among classes of hundreds are outvoted: together they get the weight of one class.
    weight = len(story.memory) / len(story.memory.labels) / EXAMPLES
    begun = time.perf_counter()
    ids = story.memory.add(
        rows.keys, rows.labels.tolist(), sources=rows.sources, thumbnails=rows.files
    )
    seconds = time.perf_counter() - begun
    plain = story.accuracy(new)
    story.memory.update(ids, weights=np.full(len(ids), weight))
    after, old_after = story.accuracy(new), story.accuracy(story.old)
    turns = _each_class_in_turn(story)
    story.tell(
        "Add a class from five examples",
        [
            f"{EXAMPLES} pictures of '{story.late}' are added in {1000 * seconds:.0f} ms. "
            f"'{story.late}' was answered right in {_percent(before)} of {int(new.sum())} "
            f"pictures before, and is now in {_percent(plain)}.",
            f"With a weight of {weight:.1f} each, so that five rows count as much as another "
            f"class, in {_percent(after)}.",
            f"The other classes: {_percent(old_before)} before, {_percent(old_after)} after.",
            f"The same with each of the {len(turns)} classes in turn as the new one: "
            f"{_percent(float(turns[:, 0].mean()))} on the new class on average "
            f"({_percent(float(turns[:, 0].min()))} to {_percent(float(turns[:, 0].max()))}); the "
            f"others {_percent(float(turns[:, 1].mean()))} before, "
            f"{_percent(float(turns[:, 2].mean()))} after.",
        ],
        new_before=before,
        new_plain=plain,
        new_after=after,
        old_before=old_before,
        old_after=old_after,
        weight=weight,
        turns_new_mean=float(turns[:, 0].mean()),
        turns_new_min=float(turns[:, 0].min()),
        turns_old_before=float(turns[:, 1].mean()),
        turns_old_after=float(turns[:, 2].mean()),
    )


def erase(story: Story) -> None:
    """Erase a row down to its bytes and look for its picture."""
    row = story.explained[1].evidence[0]
    [key] = story.memory.rows([row.id]).keys
    before = story.memory.search([key], k=1)
    begun = time.perf_counter()
    receipt = story.memory.erase([row.id])
    seconds = time.perf_counter() - begun
    after = story.memory.search([key], k=1)
    size = sum(count for _, count in receipt.scanned)
    story.tell(
        "Erase a row, with a receipt",
        [
            f"Somebody asks for {row.source} to be forgotten: row {row.id}.",
            f"Erased in {seconds:.2f} s. The receipt: digest {receipt.digests[0][:16]}..., "
            f"{len(receipt.scanned)} files ({size / 2**20:.1f} MiB) searched for "
            f"{receipt.needles} byte strings and found free of them, version {receipt.version}.",
            f"Asked for its own picture, the memory named row {int(before.ids[0, 0])} (similarity "
            f"{float(before.similarity[0, 0]):.3f}); now it names row {int(after.ids[0, 0])} "
            f"({float(after.similarity[0, 0]):.3f}). {_gone_in_words(story, row.id)}",
            "The receipt covers the memory's folder. The picture file itself, and the pages of "
            "this story, lie outside it: delete them yourself.",
        ],
        erased_row=row.id,
        erase_seconds=round(seconds, 3),
        receipt_files=len(receipt.scanned),
        receipt_bytes=size,
        receipt_needles=receipt.needles,
        nearest_before=int(before.ids[0, 0]),
        nearest_after=int(after.ids[0, 0]),
    )


def reopen(story: Story) -> None:
    """Close the memory, open it again, and ask everything once more."""
    from recollect.heads.visual_memory import MemoryClassifier
    from recollect.memory.memory import Memory

    shares = story.classifier.predict_proba(story.queries)
    uri, rows, version = story.memory.uri, len(story.memory), story.memory.version
    story.memory.close()
    begun = time.perf_counter()
    story.memory = Memory.open(uri)
    story.classifier = MemoryClassifier(memory=story.memory)
    again = story.classifier.predict_proba(story.queries)
    seconds = time.perf_counter() - begun
    same = int((shares == again).all(axis=1).sum())
    story.tell(
        "Close and reopen",
        [
            f"Closed at version {version} with {rows:,} rows, opened again, and asked all "
            f"{len(shares):,} questions in {seconds:.2f} s.",
            f"{same:,} of {len(shares):,} answers have the same vote shares, to the last bit.",
        ],
        reopened_rows=len(story.memory),
        same_answers=same,
        versions=version,
    )


STEPS: tuple[Callable[[Story], None], ...] = (
    teach, ask, explain, correct, extend, erase, reopen,
)  # fmt: skip


def _close_calls(story: Story) -> list[int]:
    """Questions about known classes that are answered right, least sure first."""
    shares = np.sort(story.classifier.predict_proba(story.queries), axis=1)
    lead = shares[:, -1] - shares[:, -2]
    right = story.classifier.predict(story.queries) == story.truth
    order = np.argsort(lead, kind="stable")
    return [int(query) for query in order[right[order]][:CLOSE_CALLS]]


def _plant_mistake(story: Story) -> tuple[int, int, Any]:
    """Find a right answer that one wrong label would change: query, row, wrong label."""
    for query in _close_calls(story):
        why = story.why(query)
        for row in why.counterfactual:
            own = story.label_of(row)
            story.memory.update([row], values=[why.changed_to])
            changed = story.why(query).prediction != story.truth[query]
            story.memory.update([row], values=[own])
            if changed:
                return query, row, why.changed_to
    raise AssertionError("unreachable: the closest of many calls hangs on one row")


def _suspect(story: Story, why: Explanation) -> tuple[int, float]:
    """Of the rows that voted for an answer, the one whose label its own neighbors support least."""
    voters = [row.id for row in why.evidence if row.value == why.prediction]
    rows = story.memory.rows(voters)
    near = story.memory.search(rows.keys, story.classifier.k, exclude=rows.ids)
    assert near.classes is not None
    assert near.codes is not None
    weights = weigh(near, VoteRule(story.classifier.vote), story.memory.metric)
    shares = label_shares(near.codes, vote_shares(weights), len(near.classes))
    own = shares[np.arange(len(rows)), np.searchsorted(near.classes, rows.values)]
    least = int(np.argmin(own))
    return int(rows.ids[least]), float(own[least])


def _each_class_in_turn(story: Story) -> Doubles:
    """New-class accuracy and old-class accuracy before and after, one line a class."""
    from recollect.heads.visual_memory import MemoryClassifier
    from recollect.memory.memory import Memory

    lines = []
    for late in sorted(set(story.taught.labels.tolist())):
        old = story.taught.take(np.flatnonzero(story.taught.labels != late))
        new = story.taught.take(np.flatnonzero(story.taught.labels == late)[:EXAMPLES])
        asked = story.truth != late
        with Memory.create(":memory:", dim=story.memory.dim) as memory:
            classifier = MemoryClassifier(memory=memory)
            memory.add(old.keys, old.labels.tolist())
            before = classifier.predict(story.queries)
            weight = len(memory) / len(memory.labels) / EXAMPLES
            memory.add(new.keys, new.labels.tolist(), weights=np.full(len(new.labels), weight))
            after = classifier.predict(story.queries)
        lines.append([
            metrics.accuracy(story.truth[~asked], after[~asked]),
            metrics.accuracy(story.truth[asked], before[asked]),
            metrics.accuracy(story.truth[asked], after[asked]),
        ])  # fmt: skip
    return np.array(lines)


def _flip_in_words(why: Explanation) -> str:
    if not why.counterfactual:
        return "No removal among these rows changes the answer."
    rows = ", ".join(str(row) for row in why.counterfactual)
    kind = "the smallest removal that changes it" if why.minimal else "a removal that changes it"
    return f"Without row {rows} the answer would be '{why.changed_to}': {kind}."


def _gone_in_words(story: Story, row: int) -> str:
    memory = story.memory
    held = [info.version for info in memory.versions() if row in memory.at(info.version).ids]
    if held:
        return f"Row {row} is still in versions {held}."
    return f"Row {row} is in none of the {len(memory.versions())} versions."


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"

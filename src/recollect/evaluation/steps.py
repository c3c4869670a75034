"""The steps of the demo. Each does one thing to the memory, measures it, and says so."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from recollect.evaluation import metrics
from recollect.evaluation.few_examples import (
    GRID,
    KS,
    MOST_LOST,
    Reading,
    ask_around,
    ask_others,
    best_k,
    first,
    heaviest,
    most_weight,
    reweighted,
    weight_of_few,
    without,
)
from recollect.evaluation.story import Story
from recollect.readout.voting import label_shares, vote_shares, weigh
from recollect.types import Explanation

EXAMPLES = 5
"""How many pictures teach the new class."""

CLOSE_CALLS = 25
"""Among how many of the least sure answers a close call is looked for."""

TURN_ROWS = 2_000
"""How many rows choose k and weight when each class is the new one in turn; more take minutes."""

NAMED = 3
"""How many rows of an answer are named in the text; the page shows more."""


def teach(story: Story) -> None:
    """Teach every class but one."""
    labels = story.taught.labels
    rows = story.taught.take(np.flatnonzero(labels != story.late))
    begun = time.perf_counter()
    story.memory.add(rows.keys, rows.labels.tolist(), sources=rows.sources, thumbnails=rows.files)
    facts = {
        "pictures": story.pictures.name,
        "folder": str(story.pictures.teach),
        "taught": len(labels),
        "queries": len(story.truth),
        "classes": len(set(labels.tolist())),
        "classes_taught": len(set(rows.labels.tolist())),
        "late": story.late,
        "encoder": story.memory.encoder,
        "dim": story.memory.dim,
        "rows": len(rows.labels),
        "memory": story.memory.uri,
        "write_seconds": time.perf_counter() - begun,
    }
    text = """
        {taught:,} {pictures} lie in {folder}, one folder a class. {classes_taught} of {classes}
        classes are taught; '{late}' is kept for later.

        Encoding them, and {queries:,} to ask about, took {encode_seconds:.1f} s. A key has {dim}
        numbers.

        Writing {rows:,} rows to {memory} took {write_seconds:.2f} s. There was no training run.
    """
    story.tell("Teach", text, facts)


def ask(story: Story) -> None:
    """Choose k on the taught rows, then ask about pictures that were never taught."""
    begun = time.perf_counter()
    tuning = story.classifier.tune(grid=GRID)
    chosen = time.perf_counter()
    asked = int(story.old.sum())
    right = story.accuracy(story.old)
    facts = {
        "ks": list(KS),
        "k": story.classifier.k,
        "expected_accuracy": tuning.best.score,
        "tune_seconds": chosen - begun,
        "old_queries": asked,
        "accuracy": right,
        "accuracy_standard_error": metrics.standard_error(right, asked),
        "answer_milliseconds": 1000 * (time.perf_counter() - chosen) / asked,
    }
    text = f"""
        An answer is a vote of the k nearest rows. Of {_in_words(KS)}, k = {{k}} was chosen by
        leave-one-out on the taught rows, which expects {{expected_accuracy:.1%}} right answers
        ({{tune_seconds:.1f}} s).

        Of {{old_queries:,}} pictures of these classes that it has never seen, {{accuracy:.1%}} are
        answered right (standard error {{accuracy_standard_error:.1%}}). An answer took
        {{answer_milliseconds:.2f}} ms.
    """
    story.tell("Ask", text, facts)


def explain(story: Story) -> None:
    """Explain the right answer that was the closest call."""
    query = _close_calls(story)[0]
    why = story.why(query)
    answer = story.answer(query, why)
    story.explained = (answer.query, why, dict(answer.pictures))
    facts = {
        "explained": story.name(query),
        "explained_answer": why.prediction,
        "explained_share": float(why.score),
        "explained_rows": len(why.evidence),
        "votes": ", ".join(f"'{label}' {share:.1%}" for label, share in why.shares.items()),
        "flip_rows": list(why.counterfactual),
        "flip_answer": why.changed_to,
    }
    items = [
        f"row {row.id}: '{row.value}', similarity {row.similarity:.2f}, "
        f"{float(row.contribution):.1%} of the vote, {row.source}"
        for row in why.evidence[:NAMED]
    ]
    text = """
        The least sure of the right answers: {explained} is '{explained_answer}'. The nearest of
        the {explained_rows} rows behind it:

        The votes: {votes}.
    """
    story.tell("Explain", f"{text}\n{_flip_in_words(why)}", facts, answer, items=items)


def correct(story: Story) -> None:
    """Plant a wrong label that breaks an answer, find it through the answer, and correct it."""
    query, row, wrong = _plant_mistake(story)
    true_label = story.label_of(row)
    story.memory.update([row], values=[wrong])
    before = story.why(query)
    suspect, share = _suspect(story, before)
    answer = story.answer(query, before)
    story.memory.update([row], values=[true_label])
    facts = {
        "mistaken": story.name(query),
        "mistaken_truth": str(story.truth[query]),
        "mistaken_row": row,
        "mistaken_label": wrong,
        "true_label": true_label,
        "answer_before": before.prediction,
        "suspect_row": suspect,
        "suspect_share": share,
        "answer_after": story.why(query).prediction,
    }
    found = "That is the one." if suspect == row else "It is another: row {mistaken_row}."
    text = f"""
        Somebody labels row {{mistaken_row}} '{{mistaken_label}}' instead of '{{true_label}}'. Now
        {{mistaken}} is answered '{{answer_before}}', which is wrong.

        Each row that voted for '{{answer_before}}' is asked about itself, without itself. Most to
        blame, by its vote and by how few of its neighbors agree ({{suspect_share:.1%}}), is row
        {{suspect_row}}. {found}

        Its label is corrected. The very next answer is '{{answer_after}}'.
    """
    story.tell("Correct a label", text, facts, answer)


def extend(story: Story) -> None:
    """Teach the class that was kept back, from five pictures."""
    new = ~story.old
    rows = story.taught.take(np.flatnonzero(story.taught.labels == story.late)[:EXAMPLES])
    facts: dict[str, Any] = {"examples": len(rows.labels), "new_queries": int(new.sum())}
    facts |= {"new_before": story.accuracy(new), "old_before": story.accuracy(story.old)}
    begun = time.perf_counter()
    ids = story.memory.add(
        rows.keys, rows.labels.tolist(), sources=rows.sources, thumbnails=rows.files
    )
    facts["add_milliseconds"] = 1000 * (time.perf_counter() - begun)
    facts |= {"new_unweighted": story.accuracy(new), "old_unweighted": story.accuracy(story.old)}
    begun = time.perf_counter()
    weight = weight_of_few(story.classifier, ids)
    facts["weight_seconds"] = time.perf_counter() - begun
    story.memory.update(ids, weights=np.full(len(ids), weight))
    facts |= {"new_after": story.accuracy(new), "old_after": story.accuracy(story.old)}
    facts |= {"weight": weight, "most_weight": most_weight(story.memory, ids)}
    facts |= {"most_lost": MOST_LOST, "turn_rows": TURN_ROWS} | _each_class_in_turn(story)
    text = """
        {examples} pictures of '{late}' are added in {add_milliseconds:.0f} ms. Of {new_queries}
        others, {new_before:.1%} were answered '{late}' before; now {new_unweighted:.1%} are. The
        other classes: {old_before:.1%} before, {old_unweighted:.1%} after.

        A few rows are easily outvoted. The largest weight, doubled from 1 and at most that of
        another class, that spoils the answers of at most {most_lost:.1%} of the taught rows of
        the others, by leave-one-out, is {weight:.0f} for each: with it {new_after:.1%} are, and
        of the other classes {old_after:.1%}.

        The same with each of the {classes} classes in turn as the new one, k ({turn_ks}) and
        weight ({turn_weights}) chosen anew on at most {turn_rows:,} rows:
        {turn_new_unweighted:.1%} of the new class on average without
        the weight, {turn_new_mean:.1%} with it ({turn_new_min:.1%} to {turn_new_max:.1%}); the
        other classes {turn_old_before:.1%} before, {turn_old_unweighted:.1%} without,
        {turn_old_after:.1%} with it.
    """
    story.tell("Add a class from a few examples", text, facts)


def erase(story: Story) -> None:
    """Erase a row down to its bytes and look for its picture."""
    row = story.explained[1].evidence[0]
    [key] = story.memory.rows([row.id]).keys
    before = story.memory.search([key], k=1)
    begun = time.perf_counter()
    receipt = story.memory.erase([row.id])
    seconds = time.perf_counter() - begun
    after = story.memory.search([key], k=1)
    facts = {
        "erased_row": row.id,
        "erased_source": row.source,
        "erase_seconds": seconds,
        "receipt_digest": receipt.digests[0],
        "receipt_files": len(receipt.scanned),
        "receipt_mebibytes": sum(size for _, size in receipt.scanned) / 2**20,
        "receipt_needles": receipt.needles,
        "nearest_before": int(before.ids[0, 0]),
        "nearest_similarity_before": float(before.similarity[0, 0]),
        "nearest_after": int(after.ids[0, 0]),
        "nearest_similarity_after": float(after.similarity[0, 0]),
        "versions_with_erased": _versions_with(story, row.id),
    }
    text = """
        Somebody asks for {erased_source} to be forgotten: row {erased_row}. It is erased in
        {erase_seconds:.2f} s.

        The receipt: {receipt_files} files ({receipt_mebibytes:.1f} MiB) were searched for
        {receipt_needles} byte strings of the row, and none was found; digest
        {receipt_digest:.16}...

        Asked for its own picture, the memory named row {nearest_before} (similarity
        {nearest_similarity_before:.3f}); now it names row {nearest_after}
        ({nearest_similarity_after:.3f}). Past versions that still hold it:
        {versions_with_erased}.

        The receipt covers the memory's folder. The picture file itself, and the pages of this
        story, lie outside it.
    """
    story.tell("Erase a row, with a receipt", text, facts)


def reopen(story: Story) -> None:
    """Close the memory, open it again, and ask everything once more."""
    from recollect.heads.visual_memory import MemoryClassifier
    from recollect.memory.memory import Memory

    shares = story.classifier.predict_proba(story.queries)
    uri, version = story.memory.uri, story.memory.version
    story.memory.close()
    begun = time.perf_counter()
    story.memory = Memory.open(uri)
    story.classifier = MemoryClassifier(story.classifier.k, memory=story.memory)
    again = story.classifier.predict_proba(story.queries)
    facts = {
        "version": version,
        "reopened_rows": len(story.memory),
        "reopen_seconds": time.perf_counter() - begun,
        "same_answers": int((shares == again).all(axis=1).sum()),
    }
    text = """
        Closed at version {version}, opened again with {reopened_rows:,} rows, and asked all
        {queries:,} questions: {reopen_seconds:.2f} s.

        {same_answers:,} of {queries:,} answers have the same vote shares as before, to the last
        bit.
    """
    story.tell("Close and reopen", text, facts)


STEPS: tuple[Callable[[Story], None], ...] = (
    teach, ask, explain, correct, extend, erase, reopen,
)  # fmt: skip


def _close_calls(story: Story) -> list[int]:
    """Questions that are answered right, least sure first."""
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
                return query, int(row), why.changed_to
    raise AssertionError("unreachable: the closest of many calls hangs on one row")


def _suspect(story: Story, why: Explanation) -> tuple[int, float]:
    """Of the rows that voted for an answer, the one to blame most, and the support for its label.

    The blame is the row's vote times the share of its own neighbors' votes against its label.
    """
    voters = [row for row in why.evidence if row.value == why.prediction]
    ids = np.array([row.id for row in voters])
    near, truth = ask_around(story.memory, ids, story.classifier.k)
    assert near.classes is not None
    assert near.codes is not None
    weights = weigh(near, story.rule, story.memory.metric)
    shares = label_shares(near.codes, vote_shares(weights), len(near.classes))
    own = shares[np.arange(len(ids)), truth]
    blame = np.array([float(row.contribution) for row in voters]) * (1.0 - own)
    most = int(np.argmax(blame))
    return int(ids[most]), float(own[most])


def _each_class_in_turn(story: Story) -> dict[str, Any]:
    """Accuracy on the new and on the other classes, with every class as the new one once."""
    by_class = {late: _turn(story, late) for late in sorted(set(story.taught.labels.tolist()))}
    turns = list(by_class.values())
    new = np.array([turn.new for turn in turns])
    old = np.array([turn.old for turn in turns])
    return {
        "turns": {late: asdict(turn) for late, turn in by_class.items()},
        "turn_ks": _span(turn.k for turn in turns),
        "turn_weights": _span(turn.weight for turn in turns),
        "turn_new_before": float(new[:, 0].mean()),
        "turn_new_unweighted": float(new[:, 1].mean()),
        "turn_new_mean": float(new[:, 2].mean()),
        "turn_new_min": float(new[:, 2].min()),
        "turn_new_max": float(new[:, 2].max()),
        "turn_old_before": float(old[:, 0].mean()),
        "turn_old_unweighted": float(old[:, 1].mean()),
        "turn_old_after": float(old[:, 2].mean()),
    }


@dataclass(frozen=True, slots=True)
class _Turn:
    """One class as the new one: what was chosen, and accuracy before, unweighted, weighted."""

    k: int
    weight: float
    new: list[float]
    old: list[float]


def _turn(story: Story, late: str) -> _Turn:
    """Choose k and weight in a memory of its own, and read its neighbors in three ways.

    One search of the rows among themselves and one of the questions stand for a memory that is
    asked, extended and weighted: the demo has time for no more.
    """
    from recollect.memory.memory import Memory

    labels = story.taught.labels
    rows = story.taught.take(np.flatnonzero(labels != late))
    few = story.taught.take(np.flatnonzero(labels == late)[:EXAMPLES])
    with Memory.create(":memory:", dim=story.memory.dim) as memory:
        memory.add(rows.keys, rows.labels.tolist())
        ids = memory.add(few.keys, few.labels.tolist())
        near, truth = ask_others(memory, ids, max(KS), at_most=TURN_ROWS)
        k = best_k(without(near, ids), truth, memory.metric)
        reading, most = Reading(story.rule, memory.metric), most_weight(memory, ids)
        weight = heaviest(first(near, k + len(ids)), truth, ids, reading, most)
        found = memory.search(story.queries, k + len(ids))
    assert found.classes is not None
    now = first(found, k)
    answers = [
        found.classes[reading.answers(near)]
        for near in (without(found, ids), now, reweighted(now, ids, weight))
    ]
    new = story.truth == late
    return _Turn(k, weight, *(
        [metrics.accuracy(story.truth[which], answer[which]) for answer in answers]
        for which in (new, ~new)
    ))  # fmt: skip


def _versions_with(story: Story, row: int) -> str:
    memory = story.memory
    held = [info.version for info in memory.versions() if row in memory.at(info.version).ids]
    return ", ".join(map(str, held)) or f"none of {len(memory.versions())}"


def _in_words(numbers: Sequence[int]) -> str:
    *others, last = map(str, numbers)
    return f"{', '.join(others)} and {last}"


def _span(numbers: Iterable[float]) -> str:
    given = sorted(numbers)
    return " to ".join(f"{number:.0f}" for number in dict.fromkeys((given[0], given[-1])))


def _flip_in_words(why: Explanation) -> str:
    if not why.counterfactual:
        return "No removal among the rows read changes the answer."
    rows = " and ".join(f"row {row}" for row in why.counterfactual)
    smallest = ", the smallest removal that changes it" if why.minimal else ""
    return f"Without {rows} the answer would be '{{flip_answer}}'{smallest}."

"""The command ``evaluate``: how often a memory is right, and how well it knows it."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from recollect.cli import options
from recollect.cli.dual import refuse_names
from recollect.cli.inputs import Wanted, encode_inputs, fit_labels, opened
from recollect.cli.screen import Screen, percent, plural
from recollect.errors import EmptyMemory, InvalidParameter
from recollect.memory.memory import Memory
from recollect.memory.sources import ColumnOptions
from recollect.readout.voting import VoteRule, label_shares, vote_all_k, vote_shares, weigh
from recollect.types import Neighbors

_BLOCK = 2048
_CURVE = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_SHOWN = 5


def evaluate(
    memory: options.Memory,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Labelled inputs, as for add. Without any, each row of the memory is asked about "
            "with itself left out.",
            show_default=False,
        ),
    ] = None,
    *,
    k: options.K = 20,
    vote_by: options.VoteRule = options.Vote.rank,
    alpha: options.Alpha = 2.0,
    temperature: options.Temperature = 0.07,
    sharpness: options.Sharpness = 1.0,
    image_column: options.ImageColumn = None,
    text_column: options.TextColumn = None,
    label_column: options.LabelColumn = None,
    split: options.Split = None,
    limit: options.Limit = None,
    seed: options.Seed = 0,
    on_error: options.Skip = options.OnError.skip,
    batch_size: options.BatchSize = 64,
    no_cache: options.NoCache = False,
    version: options.Version = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure how often a memory is right.

    Accuracy, macro recall, calibration, accuracy for every k up to the one given, the hardest
    labels and the commonest mistakes.
    """
    with Screen(as_json=as_json, quiet=quiet) as screen, opened(memory, version=version) as taught:
        _check(taught)
        rule = VoteRule(vote_by.value, alpha, temperature, sharpness)
        skipped: list[dict[str, str]] = []
        if inputs:
            columns = ColumnOptions(image=image_column, text=text_column, label=label_column)
            ready = encode_inputs(
                screen, taught, inputs, Wanted(columns, split, None, limit, None, seed),
                on_error=on_error.value, batch_size=batch_size, cache=not no_cache,
            )  # fmt: skip
            truth = fit_labels(taught, list(ready.inputs.labels or []))
            keys, own, skipped = ready.keys, None, ready.skipped
        else:
            known = taught.rows()
            truth, keys, own = known.values.tolist(), known.keys, known.ids
        facts = {
            "memory": str(memory),
            "queries": len(truth),
            "leave_one_out": own is not None,
            "skipped": skipped,
            "k": k,
            "vote": rule.name,
            **_measure(screen, taught, truth, keys, own, k, rule),
        }
        screen.result(facts, lambda: _show(screen, facts))


def _check(memory: Memory) -> None:
    if memory.value != "label":
        raise InvalidParameter(
            "evaluate needs a memory of labels", expected="value='label'",
            got=f"value={memory.value!r}", remedy="Use MemoryRegressor.score from Python.",
        )  # fmt: skip
    refuse_names(
        memory, "evaluate",
        "Use recollect predict, or DualMemoryClassifier(memory=...).score from Python.",
    )  # fmt: skip
    if len(memory) < 2:
        raise EmptyMemory(
            "the memory holds too few rows to be measured", expected="at least two rows",
            got=len(memory), remedy=f"Teach it: recollect add {memory.uri} INPUTS",
        )  # fmt: skip


def _measure(
    screen: Screen, memory: Memory, truth: list[Any], keys: Any, own: Any, k: int, rule: VoteRule
) -> dict[str, Any]:
    from recollect.evaluation.metrics import (
        accuracy,
        accuracy_by_k,
        expected_calibration_error,
        macro_recall,
        standard_error,
    )

    answers, sure = _ask(screen, memory, keys, own, k, rule)
    right = np.array(truth, object) if answers.dtype == object else np.array(truth)
    final = answers[:, -1]
    share = accuracy(right, final)
    curve = accuracy_by_k(right, answers)
    sizes = sorted({size for size in _CURVE if size < answers.shape[1]} | {answers.shape[1]})
    hits = right == final
    return {
        "accuracy": share,
        "standard_error": standard_error(share, len(right)),
        "macro_recall": macro_recall(right, final),
        "expected_calibration_error": expected_calibration_error(hits, sure),
        "mean_confidence": float(sure.mean()),
        "accuracy_by_k": {str(size): float(curve[size - 1]) for size in sizes},
        "per_class": _per_class(right, final),
        "confused": _confused(right, final),
        "unknown_labels": sorted({str(label) for label in truth} - set(map(str, memory.labels))),
    }


def _ask(
    screen: Screen, memory: Memory, keys: Any, own: Any, k: int, rule: VoteRule
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Answers for every k, ``(queries, k)``, and the share of the last one, block by block."""
    answers, sure = [], []
    reach = min(k, len(memory) - (own is not None))
    with screen.progress("Asking") as bar:
        for start in range(0, len(keys), _BLOCK):
            stop = start + _BLOCK
            exclude = None if own is None else own[start:stop]
            near = memory.search(keys[start:stop], reach, exclude=exclude)
            labels, shares = _vote(near, rule, memory)
            answers.append(labels)
            sure.append(shares)
            if bar is not None:
                bar(min(stop, len(keys)), len(keys))
    return np.concatenate(answers), np.concatenate(sure)


def _vote(
    near: Neighbors, rule: VoteRule, memory: Memory
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    assert near.codes is not None
    assert near.classes is not None
    weights = weigh(near, rule, memory.metric)
    codes = vote_all_k(near.codes, weights)
    totals = label_shares(near.codes, vote_shares(weights), len(near.classes))
    return near.classes[codes], totals[np.arange(len(totals)), codes[:, -1]]


def _per_class(truth: NDArray[Any], answers: NDArray[Any]) -> dict[str, dict[str, Any]]:
    return {
        str(label): {
            "queries": int((truth == label).sum()),
            "recall": float((answers[truth == label] == label).mean()),
        }
        for label in sorted(set(truth.tolist()))
    }


def _confused(truth: NDArray[Any], answers: NDArray[Any]) -> list[dict[str, Any]]:
    """The commonest mistakes."""
    wrong = truth != answers
    counts = Counter(zip(truth[wrong].tolist(), answers[wrong].tolist(), strict=True))
    common = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))[:20]
    return [{"truth": a, "answer": b, "count": count} for (a, b), count in common]


def _show(screen: Screen, facts: dict[str, Any]) -> None:
    asked = plural(facts["queries"], "row" if facts["leave_one_out"] else "question")
    how = ", each asked about without itself" if facts["leave_one_out"] else ""
    screen.say(f"{asked}{how}; k = {facts['k']}, {facts['vote']} vote")
    screen.facts([
        ("accuracy", f"{percent(facts['accuracy'])} +- {percent(facts['standard_error'])}"),
        ("macro recall", percent(facts["macro_recall"])),
        ("confidence", f"{percent(facts['mean_confidence'])} on average"),
        ("calibration error", percent(facts["expected_calibration_error"])),
    ])  # fmt: skip
    screen.say("")
    screen.table(
        ("k", "accuracy"),
        [(size, percent(share)) for size, share in facts["accuracy_by_k"].items()],
        numbers="k accuracy",
    )
    worst = sorted(facts["per_class"].items(), key=lambda item: item[1]["recall"])[:_SHOWN]
    screen.say("")
    screen.table(
        ("hardest labels", "questions", "recall"),
        [(label, one["queries"], percent(one["recall"])) for label, one in worst],
        numbers="questions recall",
    )
    if facts["confused"]:
        screen.say("")
        screen.table(
            ("is", "was called", "times"),
            [(one["truth"], one["answer"], one["count"]) for one in facts["confused"][:_SHOWN]],
            numbers="times",
        )
    if facts["unknown_labels"]:
        screen.note(
            f"{plural(len(facts['unknown_labels']), 'label')} of the questions are not in the "
            f"memory: {', '.join(facts['unknown_labels'][:_SHOWN])}"
        )

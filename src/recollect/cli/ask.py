"""Commands that ask: ``predict``, ``search`` and ``explain``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import typer

from recollect.cli import options
from recollect.cli.dual import answer_by_names, head_of, holds_names
from recollect.cli.inputs import Ready, Wanted, encode_inputs, opened
from recollect.cli.screen import Screen, cell, number, percent
from recollect.errors import EmptyMemory, InvalidParameter
from recollect.memory.memory import Memory
from recollect.memory.sources import ColumnOptions
from recollect.readout.regression import weighted_mean
from recollect.readout.voting import VoteRule, label_shares, vote, vote_shares, weigh
from recollect.types import Explanation, Floats, Neighbors

_SHOWN = 5  # neighbors in one line of `predict`, labels in one line of `explain`


def predict(
    memory: options.Memory,
    inputs: options.Inputs,
    *,
    k: options.K = 20,
    vote_by: options.VoteRule = options.Vote.rank,
    alpha: options.Alpha = 2.0,
    temperature: options.Temperature = 0.07,
    sharpness: options.Sharpness = 1.0,
    image_column: options.ImageColumn = None,
    text_column: options.TextColumn = None,
    split: options.Split = None,
    on_error: options.Skip = options.OnError.skip,
    version: options.Version = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Answer with the label that the nearest rows vote for.

    Shows its share of the vote and the ids of the nearest rows. Nothing is written. A memory with
    class names answers by names, examples and observed pictures instead; there the options of the
    vote have no say.
    """
    with Screen(as_json=as_json, quiet=quiet) as screen, opened(memory, version=version) as taught:
        rule = VoteRule(vote_by.value, alpha, temperature, sharpness)
        wanted = Wanted(ColumnOptions(image=image_column, text=text_column, labelled=False), split)
        ready = _encoded(screen, taught, inputs, wanted, on_error.value)
        if holds_names(taught):
            found = answer_by_names(taught, ready.keys)
        else:
            found = answer_all(taught.search(ready.keys, min(k, len(taught))), rule, taught)
        answers = [
            {"input": name, **answer} for name, answer in zip(names(ready), found, strict=True)
        ]
        screen.result(
            {"predictions": answers, "skipped": ready.skipped},
            lambda: _show_answers(screen, answers),
        )


def answer_all(near: Neighbors, rule: VoteRule, memory: Memory) -> list[dict[str, Any]]:
    """Answers to a batch of queries, as plain values for JSON."""
    weights = weigh(near, rule, memory.metric)
    shares = vote_shares(weights)
    if near.codes is None or near.classes is None:
        means = weighted_mean(near.values, shares)
        return [
            {"value": mean, "neighbors": _neighbors(near, place, shares)}
            for place, mean in enumerate(means.tolist())
        ]
    winners = vote(near.codes, weights)
    totals = label_shares(near.codes, shares, len(near.classes))
    classes = near.classes.tolist()
    answers = []
    for place, winner in enumerate(winners.tolist()):
        ranked = np.argsort(-totals[place], kind="stable")
        answers.append({
            "label": classes[winner],
            "score": float(totals[place, winner]),
            "shares": {
                str(classes[code]): float(totals[place, code])
                for code in ranked
                if totals[place, code] > 0
            },
            "neighbors": _neighbors(near, place, shares),
        })  # fmt: skip
    return answers


def search(
    memory: options.Memory,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(help="Inputs, as for predict.", show_default=False),
    ] = None,
    *,
    row: Annotated[
        int | None,
        typer.Option(
            "--row", help="Search near this row of the memory instead.", show_default=False
        ),
    ] = None,
    k: Annotated[int, typer.Option("--k", "-k", help="How many rows.", min=1)] = 10,
    where: options.Where = None,
    image_column: options.ImageColumn = None,
    text_column: options.TextColumn = None,
    split: options.Split = None,
    on_error: options.Skip = options.OnError.skip,
    version: options.Version = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Find the rows nearest to each input."""
    with Screen(as_json=as_json, quiet=quiet) as screen, opened(memory, version=version) as taught:
        if (row is None) == (not inputs):
            raise InvalidParameter(
                "search needs inputs or a row", expected="INPUTS or --row ID",
                got="neither" if row is None else "both", remedy="Give one of them.",
            )  # fmt: skip
        skipped: list[dict[str, str]] = []
        k = min(k, max(1, len(taught)))
        if row is not None:
            asked, exclude = [f"row {row}"], [[row]]
            near = taught.search(taught.rows([row]).keys, k, where=where, exclude=exclude)
        else:
            wanted = Wanted(
                ColumnOptions(image=image_column, text=text_column, labelled=False), split
            )
            ready = _encoded(screen, taught, inputs or [], wanted, on_error.value)
            asked, skipped = names(ready), ready.skipped
            near = taught.search(ready.keys, k, where=where)
        found = [
            {"input": name, "neighbors": lines}
            for name, lines in zip(asked, _described(taught, near), strict=True)
        ]
        screen.result(
            {"results": found, "skipped": skipped}, lambda: _show_found(screen, found, taught.value)
        )


def explain(
    memory: options.Memory,
    inputs: options.Inputs,
    *,
    k: options.K = 20,
    vote_by: options.VoteRule = options.Vote.rank,
    alpha: options.Alpha = 2.0,
    temperature: options.Temperature = 0.07,
    sharpness: options.Sharpness = 1.0,
    image_column: options.ImageColumn = None,
    text_column: options.TextColumn = None,
    split: options.Split = None,
    on_error: options.Skip = options.OnError.skip,
    version: options.Version = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Say which rows are behind an answer, and what would change it.

    Shows what each row adds to the answer, and the fewest rows whose removal changes it.
    """
    with Screen(as_json=as_json, quiet=quiet) as screen, opened(memory, version=version) as taught:
        rule = VoteRule(vote_by.value, alpha, temperature, sharpness)
        wanted = Wanted(ColumnOptions(image=image_column, text=text_column, labelled=False), split)
        ready = _encoded(screen, taught, inputs, wanted, on_error.value)
        reasons = list(zip(names(ready), explain_all(taught, ready.keys, k, rule), strict=True))
        facts = [{"input": name, **_explained(reason)} for name, reason in reasons]

        def show() -> None:
            """One reason below the other, an empty line between them."""
            for place, (name, reason) in enumerate(reasons):
                if place:
                    screen.say("")
                _show_reason(screen, name, reason)

        screen.result({"explanations": facts, "skipped": ready.skipped}, show)


def explain_all(memory: Memory, keys: Floats, k: int, rule: VoteRule) -> list[Explanation]:
    """Why a memory answers as it does."""
    from recollect import MemoryClassifier, MemoryRegressor

    if holds_names(memory):
        return head_of(memory).explain(keys)
    settings: dict[str, Any] = {
        "k": k, "alpha": rule.alpha, "temperature": rule.temperature, "sharpness": rule.sharpness,
        "metric": memory.metric, "memory": memory,
    }  # fmt: skip
    head: Any = (
        MemoryClassifier(vote=rule.name, **settings)
        if memory.value == "label"
        else MemoryRegressor(weighting=rule.name, **settings)
    )
    reasons: list[Explanation] = head.explain(keys)
    return reasons


def names(ready: Ready) -> list[str]:
    """What each input is called in an answer: its source, or the text itself."""
    if ready.inputs.modality == "text":
        return [str(text) for text in ready.inputs.inputs]
    return list(ready.inputs.sources)


def _encoded(
    screen: Screen,
    memory: Memory,
    arguments: list[str],
    wanted: Wanted,
    on_error: Literal["raise", "skip"],
) -> Ready:
    if not len(memory):
        raise EmptyMemory(
            "the memory holds no rows yet", remedy=f"Teach it: recollect add {memory.uri} INPUTS"
        )
    # Questions are not kept: a cache would hold a trace of every picture that was asked about.
    return encode_inputs(screen, memory, arguments, wanted, on_error=on_error)


def _neighbors(near: Neighbors, place: int, shares: Any) -> list[dict[str, Any]]:
    return [
        {
            "id": int(near.ids[place, at]),
            "value": near.values[place, at],
            "similarity": float(near.similarity[place, at]),
            "share": float(shares[place, at]),
        }
        for at in np.flatnonzero(near.found[place])
    ]


def _described(memory: Memory, near: Neighbors) -> list[list[dict[str, Any]]]:
    """Neighbors with what the memory knows about them."""
    ids = np.unique(near.ids[near.found])
    rows = memory.rows(ids)
    place_of = {int(row): place for place, row in enumerate(ids)}
    described = []
    for query in range(len(near)):
        lines = []
        for at in np.flatnonzero(near.found[query]):
            row = int(near.ids[query, at])
            known = place_of[row]
            lines.append({
                "id": row,
                "value": near.values[query, at],
                "similarity": float(near.similarity[query, at]),
                "weight": float(near.weights[query, at]),
                "source": rows.sources[known],
                "metadata": {name: column[known] for name, column in rows.metadata.items()},
            })  # fmt: skip
        described.append(lines)
    return described


def _explained(reason: Explanation) -> dict[str, Any]:
    return {
        "prediction": reason.prediction,
        "score": reason.score,
        "shares": reason.shares,
        "rows": reason.evidence,
        "counterfactual": {
            "remove": reason.counterfactual,
            "changed_to": reason.changed_to,
            "minimal": reason.minimal,
        },
    }


def _show_answers(screen: Screen, answers: list[dict[str, Any]]) -> None:
    of_numbers = "value" in answers[0]
    given_as = ("value",) if of_numbers else ("label", "share")
    lines = []
    for answer in answers:
        near = ", ".join(str(row["id"]) for row in answer["neighbors"][:_SHOWN])
        more = ", ..." if len(answer["neighbors"]) > _SHOWN else ""
        given = (
            [number(answer["value"])] if of_numbers else [answer["label"], percent(answer["score"])]
        )
        lines.append([answer["input"], *given, near + more])
    screen.table(("input", *given_as, "nearest rows"), lines, numbers=given_as[-1])


def _show_found(screen: Screen, found: list[dict[str, Any]], value: str) -> None:
    for place, one in enumerate(found):
        if place:
            screen.say("")
        screen.say(one["input"], style="bold")
        screen.table(
            ("id", value, "similarity", "source"),
            [
                (row["id"], cell(row["value"]), f"{row['similarity']:.4f}", _origin(row))
                for row in one["neighbors"]
            ],
            numbers="id similarity",
        )


def _origin(row: dict[str, Any]) -> str:
    """The text of a row of texts, or where the row came from."""
    return str(row["metadata"].get("text") or row["source"] or "")


def _show_reason(screen: Screen, name: str, reason: Explanation) -> None:
    screen.say(name, style="bold")
    if reason.shares:
        shares = list(reason.shares.items())
        told = ", ".join(f"{label} {percent(share)}" for label, share in shares[:_SHOWN])
        more = f", {len(shares) - _SHOWN} more" if len(shares) > _SHOWN else ""
        screen.say(f"Answer: {reason.prediction} ({told}{more})")
    else:
        screen.say(f"Answer: {number(float(reason.prediction))}")
    screen.table(
        ("id", "label" if reason.shares else "value", "similarity", "weight", "adds", "source"),
        [
            (
                row.id,
                cell(row.value),
                f"{row.similarity:.4f}",
                number(row.weight),
                percent(row.contribution) if reason.shares else number(float(row.contribution)),
                row.metadata.get("text") or row.source or "",
            )
            for row in reason.evidence
        ],
        numbers="id similarity weight adds",
    )
    # Names answer as a class, slot by slot; which removal would change that is not searched for.
    named = any(row.metadata.get("part") for row in reason.evidence)
    if reason.shares and not named:
        screen.say(_flip_in_words(reason))


def _flip_in_words(reason: Explanation) -> str:
    if not reason.counterfactual:
        return "No removal among the rows that were read changes the answer."
    rows = ", ".join(map(str, reason.counterfactual))
    what = "row" if len(reason.counterfactual) == 1 else "rows"
    sure = "" if reason.minimal else " A smaller set may do it too."
    return f"Without {what} {rows} the answer would be {reason.changed_to}.{sure}"

"""The command ``curate``: what looks wrong with the rows, and, on request, what to do about it."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import Annotated, Any

import typer

from recollect.cli import options
from recollect.cli.dual import refuse_names
from recollect.cli.inputs import opened
from recollect.cli.screen import Screen, cell, percent, plural
from recollect.curation.curate import CurationReport, apply_report, inspect_rows
from recollect.curation.duplicates import NEAR
from recollect.readout.voting import VoteRule


class Apply(StrEnum):
    """What to do with suspected labels."""

    relabel = "relabel"
    mute = "mute"
    remove = "remove"


def curate(
    memory: options.Memory,
    *,
    k: Annotated[int, typer.Option("--k", "-k", help="How many rows vote.", min=1, max=100)] = 20,
    vote_by: options.VoteRule = options.Vote.rank,
    near: Annotated[
        float, typer.Option("--near", help="Cosine from which on rows are near duplicates.")
    ] = NEAR,
    few: Annotated[
        int, typer.Option("--few", help="Report labels with fewer rows than this.", min=0)
    ] = 5,
    top: Annotated[int, typer.Option("--top", help="Lines shown of each list.", min=1)] = 10,
    apply: Annotated[
        Apply | None,
        typer.Option(
            "--apply",
            help="Relabel suspected rows as proposed, mute them (weight 0) or remove them.",
            show_default=False,
        ),
    ] = None,
    duplicates: Annotated[
        bool, typer.Option("--duplicates", help="With --apply: remove exact duplicates too.")
    ] = False,
    only: Annotated[
        list[int] | None,
        typer.Option("--only", help="With --apply: only this suspect; repeat it.", min=0),
    ] = None,
    yes: options.Yes = False,
    wait: options.Wait = 0.0,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """List rows that look mislabeled, mislead others, or are there twice.

    Rows are asked about each other, each left out. Nothing is changed without --apply; restore
    brings back what was.
    """
    with (
        Screen(as_json=as_json, quiet=quiet) as screen,
        opened(memory, write=apply is not None, wait=wait) as taught,
    ):
        refuse_names(
            taught, "curate", "Use recollect explain to see which rows an answer came from."
        )
        with screen.progress("Comparing") as bar:
            rule = VoteRule(vote_by.value)
            report = inspect_rows(taught, rule=rule, k=k, near=near, few=few, progress=bar)
        chosen = _only(report, only)
        if apply is None:
            facts = _facts(report) | {"applied": None, "changed": 0}
            screen.result(facts, lambda: _show(screen, report, top))
            return
        count = len({one.id for one in chosen.suspects})
        count += len(report.redundant) if duplicates else 0
        if count and not yes:
            _confirm(screen, f"{apply.value.capitalize()} up to {plural(count, 'row')}?")
        changed = apply_report(taught, chosen, apply.value, duplicates=duplicates)
        facts = _facts(report) | {
            "applied": apply.value, "changed": changed, "version": taught.version,
            "restore": report.version,
        }  # fmt: skip
        screen.result(facts, lambda: _done(screen, str(memory), report, changed))


def _only(report: CurationReport, only: list[int] | None) -> CurationReport:
    if not only:
        return report
    kept = tuple(one for one in report.suspects if one.id in set(only))
    missing = sorted(set(only) - {one.id for one in kept})
    if missing:
        raise typer.BadParameter(f"row {missing[0]} is not among the suspects", param_hint="--only")
    return replace(report, suspects=kept)


def _confirm(screen: Screen, question: str) -> None:
    if screen.as_json:
        raise typer.BadParameter("with --json nobody can be asked; add --yes")
    screen.ask(question)


def _facts(report: CurationReport) -> dict[str, Any]:
    return {
        "version": report.version,
        "rows": report.rows,
        "asked": report.asked,
        "suspects": list(report.suspects),
        "harmful": list(report.harmful),
        "duplicates": list(report.duplicates),
        "redundant": list(report.redundant),
        "small_classes": {str(label): count for label, count in report.small_classes.items()},
    }


def _done(screen: Screen, memory: str, report: CurationReport, changed: int) -> None:
    if not changed:
        screen.say("Nothing to change.")
        return
    screen.say(f"Changed {plural(changed, 'row')}.")
    screen.say(f"To undo it: recollect restore {memory} {report.version}")


def _show(screen: Screen, report: CurationReport, top: int) -> None:
    asked = plural(report.asked, "row")
    screen.say(f"{asked} of {report.rows:,} asked about, each without itself.")
    screen.say("")
    screen.say(f"{plural(len(report.suspects), 'label')} contradicted by the nearest rows")
    if report.suspects:
        screen.table(
            ("row", "label", "share", "proposed", "share of it"),
            [
                (one.id, cell(one.label), percent(one.share), cell(one.suggested),
                 percent(one.suggested_share))
                for one in report.suspects[:top]
            ],
            numbers="row",
        )  # fmt: skip
    screen.say("")
    screen.say("Rows that did more harm than good")
    if report.harmful:
        screen.table(
            ("row", "label", "harm", "help", "misled"),
            [
                (one.id, cell(one.label), f"{one.harm:.2f}", f"{one.help:.2f}",
                 ", ".join(map(str, one.misled[:5])))
                for one in report.harmful[:top]
            ],
            numbers="row harm help",
        )  # fmt: skip
    exact = [group for group in report.duplicates if group.exact]
    rest = len(report.duplicates) - len(exact)
    screen.say("")
    screen.say(
        f"{plural(len(exact), 'group')} of exact duplicates, {rest} of near ones; "
        f"{plural(len(report.redundant), 'row')} could go"
    )
    if report.duplicates:
        screen.table(
            ("rows", "labels", "kind", "similarity"),
            [
                (", ".join(map(str, group.ids[:5])), ", ".join(map(str, group.labels[:5])),
                 "exact" if group.exact else "near", f"{group.similarity:.4f}")
                for group in report.duplicates[:top]
            ],
            numbers="similarity",
        )  # fmt: skip
    if report.small_classes:
        screen.say("")
        screen.table(
            ("small labels", "rows"), list(report.small_classes.items())[:top], numbers="rows"
        )

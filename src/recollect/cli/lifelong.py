"""Commands for the life of a memory: ``what-if``, ``no-return`` and ``migrate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from recollect.cli import options
from recollect.cli.ask import names
from recollect.cli.edit import confirm, select
from recollect.cli.inputs import Ready, Wanted, encode_inputs, opened
from recollect.cli.screen import Screen, cell, percent, plural
from recollect.errors import InvalidParameter
from recollect.memory.sources import ColumnOptions

_SHOWN = 20


def what_if(
    memory: options.Memory,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Inputs to answer, as for predict. Without any, each row that would stay is asked "
            "about with itself left out.",
            show_default=False,
        ),
    ] = None,
    *,
    remove: Annotated[
        list[int] | None,
        typer.Option(
            "--remove", help="Id of a row to go; may be given several times.", show_default=False
        ),
    ] = None,
    where: options.Where = None,
    label: options.OfLabel = None,
    k: options.K = 20,
    vote_by: options.VoteRule = options.Vote.rank,
    alpha: options.Alpha = 2.0,
    temperature: options.Temperature = 0.07,
    sharpness: options.Sharpness = 1.0,
    image_column: options.ImageColumn = None,
    text_column: options.TextColumn = None,
    split: options.Split = None,
    on_error: options.Skip = options.OnError.skip,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Show which answers a removal would change, without making it.

    Nothing is written.
    """
    with Screen(as_json=as_json, quiet=quiet) as screen, opened(memory) as taught:
        from recollect import MemoryClassifier

        gone = select(taught, remove, where, label)
        ready: Ready | None = None
        if inputs:
            columns = ColumnOptions(image=image_column, text=text_column, labelled=False)
            ready = encode_inputs(
                screen, taught, inputs, Wanted(columns, split), on_error=on_error.value
            )
        head = MemoryClassifier(
            k=k, vote=vote_by.value, alpha=alpha, temperature=temperature, sharpness=sharpness,
            metric=taught.metric, memory=taught,
        )  # fmt: skip
        preview = head.what_if(None if ready is None else ready.keys, remove=gone)
        asked = [] if preview.rows is None else preview.rows.tolist()
        named = [f"row {row}" for row in asked] if ready is None else names(ready)
        flips = [
            {
                "input": named[at], "before": preview.before[at], "after": preview.after[at],
                "score_before": float(preview.score_before[at]),
                "score_after": float(preview.score_after[at]),
            }
            for at in preview.flipped.nonzero()[0].tolist()
        ]  # fmt: skip
        facts = {"removed": gone, "queries": len(preview), "flipped": len(flips), "flips": flips}

        def show() -> None:
            """Count all changed answers, and list the first of them; JSON has them all."""
            answers = plural(len(preview), "answer")
            screen.say(f"Without {plural(len(gone), 'row')} {len(flips):,} of {answers} change.")
            if flips:
                screen.table(
                    ("input", "now", "share", "then", "share "),
                    [
                        (one["input"], cell(one["before"]), percent(one["score_before"]),
                         cell(one["after"]), percent(one["score_after"]))
                        for one in flips[:_SHOWN]
                    ],
                    numbers="share",
                )  # fmt: skip
            if len(flips) > _SHOWN:
                screen.say(f"... and {plural(len(flips) - _SHOWN, 'more')}; --json lists all.")

        screen.result(facts, show)


def no_return(
    memory: options.Memory,
    *,
    allow: Annotated[
        list[int] | None,
        typer.Option(
            "--allow",
            help="Let this erased row return; may be given several times.",
            show_default=False,
        ),
    ] = None,
    wait: options.Wait = 0.0,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """List the rows that were erased and must not come back, or let some return.

    A row is put on the list by erase --no-return. The list holds keyed digests, never content.
    """
    with (
        Screen(as_json=as_json, quiet=quiet) as screen,
        opened(memory, write=bool(allow), wait=wait) as taught,
    ):
        allowed = taught.allow_return(allow).tolist() if allow else []
        listed = taught.no_return()

        def show() -> None:
            """What may return from now on, then who must not."""
            if allowed:
                screen.say(f"{plural(len(allowed), 'row')} may return.")
            if not listed:
                screen.say("No row is on the list.")
                return
            screen.table(
                ("erased row", "version", "known by"),
                [(one.id, one.version, ", ".join(one.known_by)) for one in listed],
                numbers="version",
            )

        screen.result({"allowed": allowed, "listed": listed}, show)


def migrate(
    memory: options.Memory,
    *,
    encoder: Annotated[
        str, typer.Option("--encoder", help="The new encoder, as for init.", show_default=False)
    ],
    root: Annotated[
        Path | None,
        typer.Option(
            "--root",
            help="Folder below which sources that are relative paths lie. Default: where you are.",
            show_default=False,
        ),
    ] = None,
    sample: Annotated[
        int, typer.Option("--sample", help="Rows to compare answers on.", min=2)
    ] = 1000,
    least_agreement: Annotated[
        float | None,
        typer.Option(
            "--least-agreement",
            help="Refuse to switch if fewer answers stay the same, as a share from 0 to 1.",
            min=0.0,
            max=1.0,
            show_default=False,
        ),
    ] = None,
    no_align: Annotated[
        bool,
        typer.Option("--no-align", help="Refuse if a source is gone, instead of mapping its key."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Compare only; write nothing.")
    ] = False,
    batch_size: options.BatchSize = 64,
    yes: options.Yes = False,
    wait: options.Wait = 0.0,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Encode all sources again with another encoder, compare the answers, and switch.

    The switch is one version; restore undoes it. Rows whose source is gone get a key by a linear
    map, and "aligned = true" in their metadata.
    """
    with Screen(as_json=as_json, quiet=quiet) as screen:
        from recollect.encoders import from_name
        from recollect.heads.migration import plan_migration

        new = from_name(encoder)
        with opened(memory) as taught, screen.progress("Encoding") as bar:
            plan = plan_migration(
                taught, new, root=root, align=not no_align, sample=sample, batch_size=batch_size,
                progress=bar,
            )  # fmt: skip
        report, version = plan.report, None
        if not as_json:
            _show_report(screen, report)
        _check_agreement(report, least_agreement)
        if not dry_run:
            confirm(screen, f"Switch {memory} to this encoder?", yes=yes)
            with opened(memory, write=True, wait=wait) as writable:
                version = plan.switch(writable)
        facts = {"memory": str(memory), "encoder": new.fingerprint, "report": report,
                 "switched": version is not None, "version": version}  # fmt: skip
        screen.result(facts, lambda: _show_switch(screen, memory, report, version))


def _check_agreement(report: Any, least: float | None) -> None:
    agreement = report.agreement
    if least is not None and (agreement is None or agreement.same < least):
        raise InvalidParameter(
            "too few answers stay the same",
            expected=f"at least {least:g}",
            got="no answers to compare" if agreement is None else f"{agreement.same:.3f}",
            remedy="Nothing was changed. Look at the flips with --dry-run --json.",
        )


def _show_report(screen: Screen, report: Any) -> None:
    lines: list[tuple[str, object]] = [
        ("encoded anew", plural(report.encoded, "row")),
        ("source gone, aligned", plural(len(report.aligned), "row")),
    ]
    if report.agreement is not None:
        found = report.agreement
        lines += [
            ("same answer", f"{percent(found.same)} of {plural(found.rows, 'row')} asked"),
            ("right before", percent(found.accuracy_before)),
            ("right after", percent(found.accuracy_after)),
        ]
    if report.cost is not None:
        cost = report.cost
        lines.append(
            (
                "cost of aligned keys",
                f"{percent(cost.accuracy_aligned)} right instead of {percent(cost.accuracy_real)}",
            )
        )
    screen.facts(lines)


def _show_switch(screen: Screen, memory: Path, report: Any, version: int | None) -> None:
    if version is None:
        screen.say("Nothing was changed.")
        return
    screen.say(f"Switched, version {version}.")
    screen.say(f"To undo it: recollect restore {memory} {report.before}")

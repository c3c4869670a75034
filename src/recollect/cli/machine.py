"""The command that looks at the machine: ``doctor``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from recollect.cli import options
from recollect.cli.screen import Screen


def doctor(
    *,
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", help="Time every way to search and remember the fastest."),
    ] = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Say which way a search takes on this machine, and why.

    Every way gives the same answers; they differ in speed alone.
    """
    with Screen(as_json=as_json, quiet=quiet) as screen:
        from recollect.index import calibration, kernel, paths

        facts: dict[str, Any] = {}
        if calibrate:
            measured = calibration.calibrate()
            facts["milliseconds"] = measured.milliseconds
            facts["saved"] = str(calibration.save(measured, calibration.folder()))
            paths.forget_measured()
        choice, found = paths.choose(), kernel.find()
        facts |= {
            "path": choice.path,
            "reason": choice.reason,
            "kernel": found.kernel.name if found.kernel else None,
            "kernel_reason": found.reason,
            "instructions": list(found.known),
            "threads": paths.threads(),
        }
        screen.result(facts, lambda: _show(screen, facts))


def _show(screen: Screen, facts: dict[str, Any]) -> None:
    times = facts.get("milliseconds")
    if times:
        batches = list(next(iter(times.values())))
        screen.say("Milliseconds of a search, by the number of queries at once:")
        screen.table(
            ("way", *batches),
            [(name, *(f"{row[batch]:.2f}" for batch in batches)) for name, row in times.items()],
            numbers=" ".join(batches),
        )
        screen.say("remembered in", facts["saved"])
    screen.facts(
        (
            ("search", f"{facts['path']} ({facts['reason']})"),
            ("compiled kernel", facts["kernel"] or f"none: {facts['kernel_reason']}"),
            ("instructions", ", ".join(facts["instructions"]) or "-"),
            ("threads", facts["threads"]),
        )
    )

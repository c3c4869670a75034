"""Commands about versions: ``history`` and ``restore``."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from recollect.cli import options
from recollect.cli.inputs import opened
from recollect.cli.screen import Screen, plural


def history(
    memory: options.Memory,
    *,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """List the versions of a memory, oldest first."""
    with Screen(as_json=as_json, quiet=quiet) as screen, opened(memory) as taught:
        versions = taught.versions()
        lines = [
            (info.version, _moment(info.time), info.operation, info.rows, info.changed)
            for info in versions
        ]
        screen.result(
            {"versions": versions, "current": taught.version},
            lambda: screen.table(
                ("version", "time", "operation", "rows", "changed"), lines,
                numbers="version rows changed",
            ),
        )  # fmt: skip


def restore(
    memory: options.Memory,
    version: Annotated[
        int,
        typer.Argument(help="Version to bring back.", min=0, show_default=False),
    ],
    *,
    wait: options.Wait = 0.0,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Make the rows of a past version the rows of a new one.

    No version is lost by it.
    """
    with (
        Screen(as_json=as_json, quiet=quiet) as screen,
        opened(memory, write=True, wait=wait) as taught,
    ):
        new = taught.restore(version)
        facts = {"restored": version, "version": new, "rows": len(taught)}
        screen.result(
            facts,
            lambda: screen.say(
                f"Version {new} has the {plural(len(taught), 'row')} of version {version}."
            ),
        )


def _moment(time: float) -> str:
    return datetime.fromtimestamp(time).astimezone().isoformat(" ", "seconds")

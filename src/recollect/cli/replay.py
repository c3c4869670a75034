"""The command ``reproduce lookup``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recollect.cli import options, reproduction
from recollect.cli.screen import Screen


def lookup(
    *,
    data: Annotated[Path | None, reproduction.data_option("Folder that holds mnist/.")] = None,
    work: Annotated[
        Path, typer.Option("--work", help="Folder for networks and finished parts.")
    ] = Path("lookup-work"),
    out: reproduction.Out = None,
    rows: Annotated[
        int | None,
        typer.Option("--rows", help="Training images; all when left out.", show_default=False),
    ] = None,
    queries: Annotated[
        int | None,
        typer.Option("--queries", help="Test images; all when left out.", show_default=False),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            "--epochs", help="Rounds of training; the recipes' when left out.", min=1,
            show_default=False,
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only", help="A part to measure, may be repeated; all when left out.",
            show_default=False,
        ),
    ] = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:  # fmt: skip
    """Replay a network from its table, arXiv 2307.07631, on MNIST.

    Accuracy against bytes, look-ups and energy; what is finished is kept, so a run can go on later.
    """
    with Screen(as_json=as_json, quiet=quiet) as screen:
        from recollect.evaluation.reproduce.lookup import run
        from recollect.evaluation.reproduce.lookup_page import page

        with screen.progress("Measuring") as bar:
            facts = run(
                data=reproduction.data_folder(data),
                work=work, out=out, rows=rows, queries=queries, epochs=epochs, only=only,
                progress=bar,
            )  # fmt: skip
        screen.result(facts, lambda: screen.say(page(facts)))

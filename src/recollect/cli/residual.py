"""The command ``reproduce residual-memory``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from recollect.cli import options
from recollect.cli.screen import Screen


def residual_memory(
    *,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="Folder of the data sets. Default: RECOLLECT_DATA, ../shared/data.",
            show_default=False,
        ),
    ] = None,
    models: Annotated[
        Path | None,
        typer.Option(
            "--models",
            help="Folder of the public networks. Default: RECOLLECT_MODELS, ../shared/models.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", help="Folder for figures, page and pictures.")
    ] = Path(),
    part: Annotated[
        list[str] | None,
        typer.Option(
            "--part",
            help="images, layers, tables, language, shift or theory; may be given several times. "
            "Without it, all of them. What an earlier run left in the folder is kept.",
            show_default=False,
        ),
    ] = None,
    bases: Annotated[
        Path | None,
        typer.Option(
            "--bases",
            help="Folder of the networks trained here. Default: beside the cache of encodings.",
            show_default=False,
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            "--minutes",
            help="Train for so long at most; the next run goes on. Networks that are not ready "
            "are left out.",
            min=0.0,
            show_default=False,
        ),
    ] = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure what a memory of residuals adds to small bases (arXiv 2302.01576).

    Networks on pictures, trained here; texts and tables; next tokens; a shift of domain; theory.
    """
    with Screen(as_json=as_json, quiet=quiet) as screen:
        from recollect.evaluation.reproduce.residual_memory import PARTS, run
        from recollect.evaluation.reproduce.residual_memory_page import page

        facts = run(
            data=data or Path(os.environ.get("RECOLLECT_DATA", "../shared/data")),
            models=models or Path(os.environ.get("RECOLLECT_MODELS", "../shared/models")),
            out=out,
            parts=part or PARTS,
            bases=bases,
            minutes=float("inf") if minutes is None else minutes,
            progress=screen.note,
        )
        screen.result(facts, lambda: screen.say(page(facts)))

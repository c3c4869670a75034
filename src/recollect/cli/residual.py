"""The command ``reproduce residual-memory``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recollect.cli import options, reproduction
from recollect.cli.screen import Screen


def residual_memory(
    *,
    data: Annotated[Path | None, reproduction.data_option("Folder of the data sets.")] = None,
    models: Annotated[
        Path | None, reproduction.models_option("Folder of the public networks.")
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
            data=reproduction.data_folder(data),
            models=reproduction.models_folder(models),
            out=out,
            parts=part or PARTS,
            bases=bases,
            minutes=float("inf") if minutes is None else minutes,
            progress=screen.note,
        )
        screen.result(facts, lambda: screen.say(page(facts)))

"""Commands that need no memory: ``demo`` and ``reproduce``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from recollect.cli import options
from recollect.cli.screen import Screen


def demo(
    *,
    images: Annotated[
        bool,
        typer.Option("--images", help="CIFAR-10 and MobileNetV2 instead of handwritten digits."),
    ] = False,
    out: Annotated[
        Path, typer.Option("--out", help="Folder for pictures, page and figures.")
    ] = Path("demo"),
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Tell the whole story on real images.

    Teach, ask, explain, correct, extend and erase, with a page and a picture of it.
    """
    with Screen(as_json=as_json, quiet=quiet) as screen:
        from recollect.evaluation.demo import run_demo

        def echo(line: object) -> None:
            if not (as_json or quiet):
                screen.say(line)

        facts = run_demo(images=images, out=out, echo=echo)
        screen.result(facts, lambda: None)


def visual_memory(
    *,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="Folder that holds cifar10/. Default: RECOLLECT_DATA, ../shared/data.",
            show_default=False,
        ),
    ] = None,
    models: Annotated[
        Path | None,
        typer.Option(
            "--models",
            help="Folder that holds mobilenet_v2_imagenet/. Default: RECOLLECT_MODELS, "
            "../shared/models.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for table and pictures.", show_default=False),
    ] = None,
    rows: Annotated[
        int | None, typer.Option("--rows", help="Rows of the memory.", min=1, show_default=False)
    ] = None,
    queries: Annotated[
        int | None, typer.Option("--queries", help="Questions.", min=1, show_default=False)
    ] = None,
    size: Annotated[
        int,
        typer.Option("--size", help="Side to which pictures are enlarged, a multiple of 32."),
    ] = 160,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure the four votes of arXiv 2408.08172 on CIFAR-10.

    With scikit-learn's nearest neighbors and a linear probe beside them.
    """
    with Screen(as_json=as_json, quiet=quiet) as screen:
        from recollect.evaluation.reproduce.visual_memory import run

        with screen.progress("Encoding") as bar:
            facts = run(
                data=folder_of(data, "RECOLLECT_DATA", "../shared/data"),
                models=folder_of(models, "RECOLLECT_MODELS", "../shared/models"),
                out=out, rows=rows, queries=queries, size=size, progress=bar,
            )  # fmt: skip
        screen.result(facts, lambda: _show(screen, facts))


def folder_of(given: Path | None, variable: str, default: str) -> Path:
    """The folder that was given, that a variable names, or the default."""
    return given if given is not None else Path(os.environ.get(variable, default))


def _show(screen: Screen, facts: dict[str, Any]) -> None:
    from recollect.evaluation.reproduce.visual_memory_page import page

    screen.say(page(facts))

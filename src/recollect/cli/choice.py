"""The command ``reproduce visual-memory-choice``: choices made honestly, and measured."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from recollect.cli import options, reproduction
from recollect.cli.screen import Screen


class Set(StrEnum):
    """The sets; each lies in a folder of its name."""

    caltech101 = "caltech101"
    cifar10 = "cifar10"
    tiny_imagenet100_32 = "tiny_imagenet100_32"
    banking77 = "banking77"


class Section(StrEnum):
    """What is measured."""

    tuning = "tuning"
    reliability = "reliability"
    label_noise = "label_noise"
    novelty = "novelty"
    class_means = "class_means"
    linear_probe = "linear_probe"


def visual_memory_choice(
    *,
    data: Annotated[Path | None, reproduction.data_option("Folder that holds the sets.")] = None,
    models: Annotated[
        Path | None, reproduction.models_option("Folder that holds the encoders.")
    ] = None,
    out: Annotated[
        Path | None, reproduction.out_option("Folder for figures and page; sets add up there.")
    ] = None,
    only: Annotated[
        list[Set] | None,
        typer.Option("--set", help="Only this set; repeat it.", show_default=False),
    ] = None,
    section: Annotated[
        list[Section] | None,
        typer.Option("--section", help="Only this section; repeat it.", show_default=False),
    ] = None,
    rows: Annotated[int, typer.Option("--rows", help="Most rows of a memory.", min=2)] = 10_000,
    queries: Annotated[
        int | None,
        typer.Option("--queries", help="Most questions; all by default.", min=1,
                     show_default=False),
    ] = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:  # fmt: skip
    """Measure what visual memory leaves to a choice, made honestly.

    Vote and k, reliability under label noise, suspected labels, novelty, class means.
    """
    with Screen(as_json=as_json, quiet=quiet) as screen:
        from recollect.evaluation.reproduce.visual_memory_choice import SECTIONS, SETS, run
        from recollect.evaluation.reproduce.visual_memory_choice_page import page

        with screen.progress("Encoding") as bar:
            facts = run(
                data=reproduction.data_folder(data),
                models=reproduction.models_folder(models),
                out=out,
                sets=[one.value for one in only or ()] or SETS,
                sections=[one.value for one in section or ()] or tuple(SECTIONS),
                rows=rows,
                queries=queries,
                progress=bar,
            )
        screen.result(facts, lambda: screen.say(page(facts)))

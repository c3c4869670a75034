"""Commands that need no memory: ``demo`` and ``reproduce``."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from recollect.cli import options, reproduction
from recollect.cli.screen import Screen
from recollect.errors import InvalidParameter


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
            """Keep stdout free for the one JSON object, and for ``--quiet``."""
            if not (as_json or quiet):
                screen.say(line)

        facts = run_demo(images=images, out=out, echo=echo)
        screen.result(facts, lambda: None)


def visual_memory(
    *,
    data: Annotated[Path | None, reproduction.data_option("Folder that holds cifar10/.")] = None,
    models: reproduction.MobileNet = None,
    out: reproduction.Out = None,
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
    scaling: Annotated[
        bool,
        typer.Option(
            "--scaling",
            help="Instead: accuracy by size of memory and encoder, random labels, and texts.",
        ),
    ] = False,
    lifelong: Annotated[
        bool,
        typer.Option(
            "--lifelong",
            help="Instead: new classes, removals, levels, a new encoder, a second opinion.",
        ),
    ] = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure the four votes of arXiv 2408.08172 on CIFAR-10.

    With scikit-learn's nearest neighbors and a linear probe beside them.
    """
    with Screen(as_json=as_json, quiet=quiet) as screen:
        part = _part(scaling=scaling, lifelong=lifelong)
        sizes = {} if part else {"rows": rows, "queries": queries, "size": size}
        measured = import_module(f"recollect.evaluation.reproduce.visual_memory{part}")
        with screen.progress("Encoding") as bar:
            facts = measured.run(
                data=reproduction.data_folder(data),
                models=reproduction.models_folder(models),
                out=out, progress=bar, **sizes,
            )  # fmt: skip
        screen.result(facts, lambda: screen.say(measured.page(facts)))


def _part(*, scaling: bool, lifelong: bool) -> str:
    if scaling and lifelong:
        raise InvalidParameter(
            "two parts were asked for at once",
            expected="--scaling or --lifelong",
            got="both",
            remedy="Run the command twice.",
        )
    return "_scaling" if scaling else "_lifelong" if lifelong else ""


def dense_memory(
    *,
    data: Annotated[
        Path | None,
        reproduction.data_option(
            "Folder that holds camvid/, nyuv2_depth/, hippocampus3d/ and qtdb_ecg/."
        ),
    ] = None,
    models: reproduction.MobileNet = None,
    out: Annotated[Path | None, reproduction.out_option("Folder for tables and pictures.")] = None,
    part: Annotated[
        str | None,
        typer.Option(
            "--part",
            help="camvid, nyuv2-depth, nyuv2-labels, hippocampus, ecg, continual or decoder; "
            "without, all that the folder does not hold yet.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", help="Samples of each split.", min=8, show_default=False),
    ] = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure segmentation, depth, volumes and signals after arXiv 2403.11743.

    With flat search and trained heads on the same features beside them.
    """
    with Screen(as_json=as_json, quiet=quiet) as screen:
        from recollect.evaluation.reproduce.dense_memory import run
        from recollect.evaluation.reproduce.dense_memory_page import page

        with screen.progress("Measuring") as bar:
            facts = run(
                data=reproduction.data_folder(data),
                models=reproduction.models_folder(models),
                out=out, part=part, limit=limit, progress=bar,
            )  # fmt: skip
        screen.result(facts, lambda: screen.say(page(facts)))


def dual_memory(
    *,
    data: Annotated[
        Path | None,
        reproduction.data_option("Folder of caltech101/, cifar10/ and tiny_imagenet100_32/."),
    ] = None,
    models: Annotated[
        Path | None,
        reproduction.models_option(
            "Folder of mobilenet_v2_imagenet/, minilm_l6_text/, zero_shot_text_map/ and "
            "clip_text_lvis/."
        ),
    ] = None,
    out: reproduction.Out = None,
    queries: Annotated[
        int, typer.Option("--queries", help="At most so many pictures of a stream.", min=10)
    ] = 1000,
    seeds: Annotated[
        int, typer.Option("--seeds", help="Draws of shots and orders of the stream.", min=1)
    ] = 3,
    size: Annotated[
        int, typer.Option("--size", help="Side to which pictures are brought, a multiple of 32.")
    ] = 160,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds",
            help="Begin no measurement after so long. What was measured is kept beside the "
            "encodings, and the next run goes on.",
            show_default=False,
        ),
    ] = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure arXiv 2403.17589 on Caltech-101, CIFAR-10 and Tiny-ImageNet.

    Names alone, 1 to 16 shots and learned offsets, with fixed, honest and oracle weights, streams
    in three orders, ablations, and the methods it is compared with.
    """
    with Screen(as_json=as_json, quiet=quiet) as screen:
        from recollect.evaluation.reproduce.dual_memory import run
        from recollect.evaluation.reproduce.dual_memory_page import page

        with screen.progress("Measuring") as bar:
            facts = run(
                data=reproduction.data_folder(data),
                models=reproduction.models_folder(models),
                out=out, queries=queries, seeds=seeds, size=size, seconds=seconds, progress=bar,
            )  # fmt: skip
        if facts is None:
            screen.result({"finished": False}, lambda: screen.say("Time is up; run it again."))
        else:
            screen.result(facts, lambda: screen.say(page(facts)))

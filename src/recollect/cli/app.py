"""The commands, put together, and how they end."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

import recollect
from recollect.cli import (
    ask,
    choice,
    curate,
    dual,
    edit,
    exchange,
    history,
    inspect,
    lifelong,
    machine,
    measure,
    showcase,
    teach,
)

INTERRUPTED = 130

app = typer.Typer(
    name="recollect",
    help="Perception with an explicit memory: teach, ask, correct and erase.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# In the order of a memory's life.
COMMANDS: tuple[tuple[str, Callable[..., None]], ...] = (
    ("init", teach.init),
    ("add", teach.add),
    ("predict", ask.predict),
    ("observe", dual.observe),
    ("search", ask.search),
    ("explain", ask.explain),
    ("relabel", edit.relabel),
    ("reweight", edit.reweight),
    ("remove", edit.remove),
    ("erase", edit.erase),
    ("what-if", lifelong.what_if),
    ("no-return", lifelong.no_return),
    ("migrate", lifelong.migrate),
    ("rows", inspect.rows),
    ("stats", inspect.stats),
    ("history", history.history),
    ("restore", history.restore),
    ("evaluate", measure.evaluate),
    ("curate", curate.curate),
    ("export", exchange.export),
    ("import", exchange.import_),
    ("verify", inspect.verify),
    ("doctor", machine.doctor),
    ("demo", showcase.demo),
    ("reproduce dual-memory", showcase.dual_memory),
    ("reproduce dense-memory", showcase.dense_memory),
    ("reproduce visual-memory", showcase.visual_memory),
    ("reproduce visual-memory-choice", choice.visual_memory_choice),
)
_reproduce = typer.Typer(
    name="reproduce", help="Measure again what a paper reports.", no_args_is_help=True
)
for _name, _command in COMMANDS:
    _group, _, _last = _name.rpartition(" ")
    (_reproduce if _group else app).command(_last)(_command)
app.add_typer(_reproduce)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer's signature
    if wanted:
        typer.echo(f"recollect {recollect.__version__}")
        raise typer.Exit


@app.callback()
def root(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and stop.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Perception with an explicit memory: teach, ask, correct and erase."""


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A label that the terminal cannot show is no reason to fail.
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run(arguments)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has seen enough; nothing may be flushed into it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if code == INTERRUPTED:
        sys.stderr.write("Interrupted; what was not finished was not written.\n")
    return code


def _run(arguments: list[str]) -> int:
    usage_error: Any = typer.BadParameter.__base__
    if not _wants_json(arguments):
        try:
            app(arguments, prog_name="recollect")
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 1
        return 0
    try:
        code = app(arguments, prog_name="recollect", standalone_mode=False)
    except usage_error as error:
        told = {"type": "UsageError", "message": error.format_message()}
        sys.stdout.write(json.dumps({"error": told}) + "\n")
        return 2
    return code if isinstance(code, int) else 0


def _wants_json(arguments: list[str]) -> bool:
    before = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in before

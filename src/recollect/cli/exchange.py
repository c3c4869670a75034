"""Commands that carry a memory elsewhere: ``export`` and ``import``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recollect.cli import options
from recollect.cli.inputs import opened
from recollect.cli.screen import Screen, plural
from recollect.errors import InputError
from recollect.memory.memory import Memory


def export(
    memory: options.Memory,
    file: Annotated[
        Path,
        typer.Argument(help="Parquet file to write.", show_default=False),
    ],
    *,
    version: options.Version = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Write all rows to a Parquet file, bit for bit, with their small pictures."""
    with Screen(as_json=as_json, quiet=quiet) as screen, opened(memory, version=version) as taught:
        if file.exists() and not force:
            raise InputError(
                f"there is a file at {file}", remedy="Choose another name, or add --force."
            )
        taught.to_parquet(file)
        facts = {
            "file": str(file), "rows": len(taught), "version": taught.version,
            "bytes": file.stat().st_size,
        }  # fmt: skip
        screen.result(
            facts,
            lambda: screen.say(
                f"Wrote {plural(len(taught), 'row')} to {file} ({facts['bytes']:,} bytes)."
            ),
        )


def import_(
    memory: options.Memory,
    file: Annotated[
        Path,
        typer.Argument(
            help="Parquet file of export, or any with a column of embeddings and one of labels.",
            show_default=False,
        ),
    ],
    *,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Make a new memory from a Parquet file of embeddings and labels."""
    with (
        Screen(as_json=as_json, quiet=quiet) as screen,
        Memory.from_parquet(memory, file) as made,
    ):
        facts = {
            "memory": str(memory), "rows": len(made), "dim": made.dim, "metric": made.metric,
            "value": made.value, "encoder": made.encoder,
        }  # fmt: skip

        def show() -> None:
            """Say also how a memory is asked whose encoder is not known here."""
            screen.say(f"Made {memory} with {plural(len(made), 'row')}.")
            if made.encoder is None:
                screen.note(
                    "No encoder is known: ask with Parquet files of embeddings of the same kind."
                )

        screen.result(facts, show)

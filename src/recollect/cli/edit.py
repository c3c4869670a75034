"""Commands that change rows: ``relabel``, ``reweight``, ``remove`` and ``erase``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Annotated, Any, TextIO

import numpy as np
import typer

from recollect.cli import options
from recollect.cli.dual import check_relabel, whole_pictures
from recollect.cli.inputs import as_label, as_number, known_label, opened
from recollect.cli.screen import Screen, cell, plain_json, plural
from recollect.errors import InvalidParameter, WriteFailed
from recollect.memory.memory import Memory
from recollect.types import Ids, Label, Receipt

RowIds = Annotated[
    list[int] | None,
    typer.Argument(help="Ids of the rows.", show_default=False),
]


def relabel(
    memory: options.Memory,
    *,
    ids: RowIds = None,
    label: Annotated[str, typer.Argument(help="Their new label.", show_default=False)],
    where: options.Where = None,
    wait: options.Wait = 0.0,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Correct the label of rows; the next answer knows it."""
    with (
        Screen(as_json=as_json, quiet=quiet) as screen,
        opened(memory, write=True, wait=wait) as taught,
    ):
        chosen = select(taught, ids, where)
        new: Any = as_number(label) if taught.value == "number" else as_label(taught, label)
        check_relabel(taught, chosen, new)
        before = taught.rows(chosen).values.tolist()
        if len(chosen):
            taught.update(chosen, values=[new] * len(chosen))
        facts = {
            "ids": chosen, "before": before, "label": new, "changed": len(chosen),
            "version": taught.version,
        }  # fmt: skip

        def show() -> None:
            """Name the old label of a single row only: several rows may have had several."""
            if len(chosen) == 1:
                screen.say(f"Row {chosen[0]}: {cell(before[0])} is now {cell(new)}.")
            else:
                screen.say(f"{plural(len(chosen), 'row')} now {cell(new)}.")

        screen.result(facts, show)


def reweight(
    memory: options.Memory,
    *,
    ids: RowIds = None,
    weight: Annotated[
        float,
        typer.Argument(help="Their new weight; 0 means no vote.", min=0.0, show_default=False),
    ],
    where: options.Where = None,
    wait: options.Wait = 0.0,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Change how much the votes of rows weigh."""
    with (
        Screen(as_json=as_json, quiet=quiet) as screen,
        opened(memory, write=True, wait=wait) as taught,
    ):
        chosen = select(taught, ids, where)
        if len(chosen):
            taught.update(chosen, weights=np.full(len(chosen), weight))
        facts = {
            "ids": chosen, "weight": weight, "changed": len(chosen), "version": taught.version,
        }  # fmt: skip
        screen.result(
            facts, lambda: screen.say(f"{plural(len(chosen), 'row')} now of weight {weight:g}.")
        )


def remove(
    memory: options.Memory,
    ids: RowIds = None,
    *,
    where: options.Where = None,
    label: options.OfLabel = None,
    yes: options.Yes = False,
    wait: options.Wait = 0.0,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Take rows out of every answer.

    Past versions keep them: restore brings them back.
    """
    with (
        Screen(as_json=as_json, quiet=quiet) as screen,
        opened(memory, write=True, wait=wait) as taught,
    ):
        chosen = whole_pictures(taught, select(taught, ids, where, label))
        if len(chosen):
            confirm(screen, f"Remove {plural(len(chosen), 'row')} of {len(taught):,}?", yes=yes)
        before = taught.version
        gone = taught.remove(chosen)
        facts = {
            "ids": gone, "removed": len(gone), "rows": len(taught), "version": taught.version,
        }  # fmt: skip

        def show() -> None:
            """Say what went, and the command that brings it back."""
            if not len(gone):
                screen.say("No rows match; nothing was changed.")
                return
            screen.say(f"Removed {plural(len(gone), 'row')}; {len(taught):,} remain.")
            screen.say(f"To bring them back: recollect restore {memory} {before}")

        screen.result(facts, show)


def erase(
    memory: options.Memory,
    ids: RowIds = None,
    *,
    where: options.Where = None,
    label: options.OfLabel = None,
    receipt: Annotated[
        Path | None,
        typer.Option(
            "--receipt", help="Write the receipt to this new file, as JSON.", show_default=False
        ),
    ] = None,
    no_return: Annotated[
        bool,
        typer.Option(
            "--no-return",
            help="Keep keyed digests of the rows, by which add refuses them from now on.",
        ),
    ] = False,
    yes: options.Yes = False,
    wait: options.Wait = 0.0,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Erase rows from the disk for good, with a receipt.

    They leave past versions and the cache too; nothing can bring them back. The receipt is issued
    after every byte of the folder was searched for what the rows consisted of. Rows that were
    removed before can be erased by their ids.
    """
    with (
        Screen(as_json=as_json, quiet=quiet) as screen,
        opened(memory, write=True, wait=wait) as taught,
    ):
        # Rows that were removed are erased by id; they can no longer be looked up.
        chosen = (
            np.array(ids, np.int64)
            if ids and where is None and not label
            else select(taught, ids, where, label)
        )
        chosen = np.union1d(chosen, whole_pictures(taught, chosen))
        if not len(chosen):
            facts: dict[str, Any] = {"ids": [], "erased": 0, "receipt": None}
            screen.result(facts, lambda: screen.say("No rows match; nothing was changed."))
            return
        confirm(
            screen, f"Erase {plural(len(chosen), 'row')} for good? Nothing brings them back.",
            yes=yes,
        )  # fmt: skip
        with _new_file(receipt) if receipt else nullcontext() as file:
            proof = taught.erase(chosen, no_return=no_return)
            if file is not None:
                file.write(json.dumps(plain_json(proof), indent=2) + "\n")
        screen.result(
            {"ids": proof.ids, "erased": len(proof.ids), "receipt": proof},
            lambda: _show_receipt(screen, proof, receipt),
        )


def select(
    memory: Memory, ids: list[int] | None, where: str | None, labels: list[str] | None = None
) -> Ids:
    """The rows that a command is about, sorted.

    Raises:
        InvalidParameter: Neither ids nor a filter were given, or both.
        UnknownIds: One of the ids is not alive.
        InvalidLabel: No row has one of the labels.
    """
    if bool(ids) == (where is not None or bool(labels)):
        raise InvalidParameter(
            "it is not clear which rows are meant",
            expected="ids, or a filter such as --where \"source like '%cat%'\"",
            got="both" if ids else "neither",
            remedy="`recollect rows MEMORY` lists rows with their ids.",
        )
    if ids:
        return memory.rows(sorted(ids)).ids
    filters = [f"({where})"] if where is not None else []
    if labels:
        named = (f"label = {_quoted(known_label(memory, label))}" for label in labels)
        filters.append(f"({' or '.join(named)})")
    return memory.find(" and ".join(filters))


def _quoted(label: Label) -> str:
    return str(label) if isinstance(label, int) else "'" + label.replace("'", "''") + "'"


def confirm(screen: Screen, question: str, *, yes: bool) -> None:
    """Ask, unless ``yes``; anything but a yes ends the command with nothing changed."""
    if yes:
        return
    if screen.as_json:
        raise typer.BadParameter("with --json nobody can be asked; add --yes")
    screen.ask(question)


@contextmanager
def _new_file(path: Path) -> Iterator[TextIO]:
    """A file that is made before anything is erased, and taken away again if nothing was."""
    try:
        file = path.open("x", encoding="utf-8")
    except OSError as error:
        raise WriteFailed(
            f"the receipt cannot be written to {path}", got=error.strerror,
            remedy="Name a file that does not exist, in a folder that does.",
        ) from error  # fmt: skip
    try:
        with file:
            yield file
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


def _show_receipt(screen: Screen, proof: Receipt, file: Path | None) -> None:
    size = sum(size for _, size in proof.scanned)
    screen.say(f"Erased {plural(len(proof.ids), 'row')}, version {proof.version}.")
    screen.facts([
        ("searched", f"{plural(len(proof.scanned), 'file')}, {size:,} bytes"),
        ("searched for", plural(proof.needles, "byte string")),
        ("found", "nothing but what is named below" if proof.shared else "nothing"),
        ("rewritten", ", ".join(proof.rewritten)),
    ])  # fmt: skip
    for reason, what in _grouped(proof.shared).items():
        screen.say(f"Not told apart, {reason}: {what}")
    if proof.banned:
        screen.say(f"Must not return: {plural(len(proof.banned), 'row')}; see recollect no-return.")
    if file is None:
        screen.note("Keep the receipt with --receipt FILE next time.")
    else:
        screen.say(f"Receipt: {file}")


def _grouped(shared: tuple[str, ...]) -> dict[str, str]:
    """Lines such as ``label of row 3: reason``, one per reason and kind, with the rows counted."""
    rows: dict[tuple[str, str], list[str]] = {}
    for line in shared:
        what, _, reason = line.partition(": ")
        kind, _, row = what.partition(" of row ")
        rows.setdefault((reason, kind), []).append(row)
    told: dict[str, str] = {}
    for (reason, kind), ids in rows.items():
        listed = (
            f"{kind} of {plural(len(ids), 'row')}"
            if len(ids) > 3
            else (f"{kind} of row {', '.join(ids)}")
        )
        told[reason] = f"{told[reason]}, {listed}" if reason in told else listed
    return told

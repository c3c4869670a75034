"""Commands that look and change nothing: ``stats``, ``rows`` and ``verify``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from recollect.cli import options
from recollect.cli.inputs import opened
from recollect.cli.screen import Screen, cell, number, plural
from recollect.errors import CorruptMemory
from recollect.memory.memory import Memory

_LABELS_SHOWN = 20


def stats(
    memory: options.Memory,
    *,
    version: options.Version = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Say what a memory is, what it holds and how much room it takes."""
    with Screen(as_json=as_json, quiet=quiet) as screen, opened(memory, version=version) as taught:
        facts = taught.stats()
        if taught.value == "label":
            facts["label_counts"] = taught.label_counts()
        screen.result(facts, lambda: _show_stats(screen, facts))


def rows(
    memory: options.Memory,
    ids: Annotated[
        list[int] | None,
        typer.Argument(help="Only these rows.", show_default=False),
    ] = None,
    *,
    where: options.Where = None,
    limit: Annotated[int, typer.Option("--limit", help="At most so many rows.", min=1)] = 50,
    version: options.Version = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """List rows: id, label, weight, source and metadata."""
    with Screen(as_json=as_json, quiet=quiet) as screen, opened(memory, version=version) as taught:
        found, total = _some_rows(taught, ids, where, limit)
        columns = list(found.metadata)
        lines = [
            {
                "id": row,
                taught.value: value,
                "weight": weight,
                "source": source,
                "metadata": {name: found.metadata[name][place] for name in columns},
            }
            for place, (row, value, weight, source) in enumerate(
                zip(
                    found.ids.tolist(), found.values.tolist(), found.weights.tolist(),
                    found.sources, strict=True,
                )
            )
        ]  # fmt: skip

        def show() -> None:
            """One line a row; how many were left out is told on stderr."""
            screen.table(
                ("id", taught.value, "weight", "source", *columns),
                [
                    (
                        line["id"], cell(line[taught.value]), number(line["weight"]),
                        line["source"] or "",
                        *("" if held is None else cell(held) for held in line["metadata"].values()),
                    )
                    for line in lines
                ],
                numbers="id weight",
            )  # fmt: skip
            if total > len(lines):
                screen.note(f"{len(lines)} of {plural(total, 'row')}; see more with --limit.")

        screen.result({"rows": lines, "total": total}, show)


def verify(
    memory: options.Memory,
    *,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Check every byte of a memory, trusting nothing.

    Exit code 1 if anything is not what was written.
    """
    with Screen(as_json=as_json, quiet=quiet) as screen:
        facts = _checked(memory)

        def show() -> None:
            """All is well in one line, or every problem on a line of its own."""
            if facts["ok"]:
                screen.say(
                    f"All is well: {plural(facts['states'], 'row state')}, "
                    f"{facts['bytes_read']:,} bytes compared with their checksums."
                )
                return
            screen.say(f"{plural(len(facts['problems']), 'problem')}:", style="red")
            for problem in facts["problems"]:
                screen.say(f"  {problem}")

        screen.result(facts, show)
        if not facts["ok"]:
            raise typer.Exit(1)


def _checked(path: options.Memory) -> dict[str, Any]:
    try:
        with Memory.open(path, read_only=True, check=False) as taught:
            found = taught.verify()
    except CorruptMemory as error:
        # So damaged that it cannot even be opened: that is an answer too.
        return {"ok": False, "problems": [str(error)], "states": 0, "bytes_read": 0}
    return {
        "ok": found.ok,
        "problems": found.problems,
        "states": found.states,
        "bytes_read": found.bytes_read,
    }


def _some_rows(memory: Memory, ids: list[int] | None, where: str | None, limit: int) -> Any:
    if ids:
        found = memory.rows(ids if where is None else None, where=where)
        return memory.rows(found.ids[:limit]), len(found)
    if where is None:
        every = memory.ids
        return memory.rows(every[:limit]), len(every)
    matching = memory.rows(where=where).ids
    return memory.rows(matching[:limit]), len(matching)


def _show_stats(screen: Screen, facts: dict[str, Any]) -> None:
    columns = ", ".join(f"{name} ({kind})" for name, kind in facts["columns"].items())
    lines = [
        ("memory", facts["uri"]),
        ("rows", f"{facts['rows']:,}"),
        ("version", facts["version"]),
        ("encoder", facts["encoder"] or "none: keys come as they are"),
        ("keys", f"{facts['dim']} x {facts['dtype']}, compared by {facts['metric']}"),
        ("values", facts["value"]),
        ("metadata", columns or "none"),
        ("on disk", f"{facts['bytes_on_disk']:,} bytes"),
    ]
    screen.facts(lines)
    counts = facts.get("label_counts")
    if counts:
        screen.say("")
        most = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
        screen.table(("label", "rows"), most[:_LABELS_SHOWN], numbers="rows")
        if len(most) > _LABELS_SHOWN:
            screen.say(f"... and {plural(len(most) - _LABELS_SHOWN, 'more label')}")

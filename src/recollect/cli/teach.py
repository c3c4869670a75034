"""Commands that teach: ``init`` and ``add``."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import typer

from recollect.cli import options
from recollect.cli.dual import check_shots, read_names, write_names
from recollect.cli.inputs import Ready, Wanted, encode_inputs, fit_labels, opened
from recollect.cli.screen import Screen, plural
from recollect.errors import InvalidParameter, RecollectError
from recollect.memory.memory import Memory
from recollect.memory.sources import ColumnOptions

THUMBNAIL_SIDE = 64


def init(
    memory: options.Memory,
    *,
    encoder: Annotated[
        str,
        typer.Option(
            "--encoder",
            help="hog or pixels (images, no weights needed), hashing-text (texts), onnx:MODEL, "
            "text:FOLDER, hf:FOLDER, or a name on the Hugging Face Hub; options follow, as in "
            "onnx:model.onnx?size=160 or ORG/NAME?allow_download=true.",
        ),
    ] = "hog",
    metric: Annotated[
        options.Metric, typer.Option("--metric", help="How keys are compared.")
    ] = options.Metric.cosine,
    value: Annotated[
        options.Value, typer.Option("--value", help="What a row answers with.")
    ] = options.Value.label,
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--names",
            help="Class names, as crow,jay or as a file with one a line: the memory answers by "
            "them before any example. Needs an encoder of CLIP, or --text-encoder.",
            show_default=False,
        ),
    ] = None,
    prompts: Annotated[
        list[str] | None,
        typer.Option(
            "--prompt",
            help="Template such as 'a photo of a {}.'; may be given several times. Default: the "
            "seven of CLIP.",
            show_default=False,
        ),
    ] = None,
    text_encoder: Annotated[
        str | None,
        typer.Option(
            "--text-encoder",
            help="Encodes the names into the space of the pictures.",
            show_default=False,
        ),
    ] = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Make a memory for what one encoder reads: empty, or with class names.

    With names it can answer at once: `recollect init birds --names crow,jay --encoder
    "openai/clip-vit-base-patch16?allow_download=true"`.
    """
    with Screen(as_json=as_json, quiet=quiet) as screen:
        from recollect.encoders import from_name

        named = _names(names, prompts, text_encoder)
        built = from_name(encoder)
        classes: list[Any] = []
        with created(
            memory, dim=built.dim, metric=metric.value, value=value.value, encoder=built
        ) as made:
            if named:
                classes = write_names(made, built, named, prompts, text_encoder)
            facts = {
                "memory": str(memory),
                "encoder": made.encoder,
                "modality": built.modality,
                "dim": made.dim,
                "metric": made.metric,
                "value": made.value,
                "classes": classes,
            }

        def show() -> None:
            """What was made, and the next command."""
            kind = f"a memory with {plural(len(classes), 'class name')}" if classes else ""
            screen.say(f"Made {kind or 'an empty memory'} at {memory}.")
            screen.facts(list(facts.items())[1:-1])
            verb = "Ask it: recollect predict" if classes else "Teach it: recollect add"
            screen.say(f"{verb} {memory} INPUTS")

        screen.result(facts, show)


def _names(
    names: list[str] | None, prompts: list[str] | None, text_encoder: str | None
) -> list[str]:
    """Class names as they were given.

    Raises:
        InvalidParameter: There are none, or there are options that only names have a use for.
    """
    if names:
        found = read_names(names)
        if found:
            return found
    unused = "--prompt" if prompts else "--text-encoder" if text_encoder else None
    if names or unused:
        raise InvalidParameter(
            "there are no class names", expected="--names crow,jay, or a file with one a line",
            got="nothing but separators" if names else f"{unused} alone",
            remedy="Name the classes, or leave the option out.",
        )  # fmt: skip
    return []


@contextmanager
def created(path: Path, **made: Any) -> Iterator[Memory]:
    """A new memory, which is taken away again if what follows fails."""
    with Memory.create(path, **made) as memory:
        try:
            yield memory
        except BaseException:
            memory.close()
            shutil.rmtree(path)
            raise


def add(
    memory: options.Memory,
    inputs: options.Inputs,
    *,
    label: Annotated[
        str | None,
        typer.Option("--label", help="Label of all these inputs.", show_default=False),
    ] = None,
    image_column: options.ImageColumn = None,
    text_column: options.TextColumn = None,
    label_column: options.LabelColumn = None,
    label_type: Annotated[
        options.LabelType, typer.Option("--label-type", help="Read labels as text or integers.")
    ] = options.LabelType.auto,
    metadata: Annotated[
        list[str] | None,
        typer.Option(
            "--metadata",
            help="Column to keep; may be given several times. Default: all that can be kept.",
            show_default=False,
        ),
    ] = None,
    no_metadata: Annotated[
        bool, typer.Option("--no-metadata", help="Keep no other columns.")
    ] = False,
    split: options.Split = None,
    limit: options.Limit = None,
    per_class: Annotated[
        int | None,
        typer.Option(
            "--per-class", help="At most so many inputs of each class.", min=1, show_default=False
        ),
    ] = None,
    seed: options.Seed = 0,
    weight: Annotated[
        float, typer.Option("--weight", help="Weight of these rows' votes.", min=0.0)
    ] = 1.0,
    previews: Annotated[
        bool,
        typer.Option(
            "--previews/--no-previews",
            help="Keep a small picture, or the text, of each input, to show what an answer came "
            "from.",
        ),
    ] = True,
    on_error: options.Skip = options.OnError.stop,
    batch_size: options.BatchSize = 64,
    no_cache: options.NoCache = False,
    wait: options.Wait = 0.0,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Teach labelled inputs: encode them and add them as rows.

    All of them are added in one version, or none.
    """
    with Screen(as_json=as_json, quiet=quiet) as screen, opened(memory) as known:
        columns = ColumnOptions(
            image=image_column,
            text=text_column,
            label=label_column,
            label_type=label_type.value,
            metadata=[] if no_metadata else metadata,
        )
        wanted = Wanted(columns, split, label, limit, per_class, seed)
        ready = encode_inputs(
            screen, known, inputs, wanted, on_error=on_error.value, batch_size=batch_size,
            cache=not no_cache,
        )  # fmt: skip
        extra = _previews(screen, ready) if previews and known.encoder_spec else {}
        # Encoding may take hours; the lock is held only while the rows are written.
        with opened(memory, write=True, wait=wait) as taught:
            facts = _write(taught, ready, weight, extra)
        screen.result(facts, lambda: _show_added(screen, memory, facts))


def _write(memory: Memory, ready: Ready, weight: float, extra: dict[str, Any]) -> dict[str, Any]:
    labels = fit_labels(memory, list(ready.inputs.labels or []))
    metadata = {**ready.inputs.metadata, **extra.get("metadata", {})}
    check_shots(memory, labels, metadata)
    ids = memory.add(
        ready.keys,
        labels,
        weights=weight,
        sources=ready.inputs.sources,
        metadata=metadata,
        thumbnails=extra.get("thumbnails"),
    )
    return {
        "memory": memory.uri,
        "added": len(ids),
        "ids": ids,
        "labels": dict(Counter(labels)) if memory.value == "label" else None,
        "skipped": ready.skipped,
        "rows": len(memory),
        "version": memory.version,
    }


def _show_added(screen: Screen, memory: Path, facts: dict[str, Any]) -> None:
    ids = facts["ids"]
    span = f"id {ids[0]}" if len(ids) == 1 else f"ids {ids[0]} to {ids[-1]}"
    screen.say(f"Added {plural(len(ids), 'row')} ({span}), version {facts['version']}.")
    if facts["labels"]:
        most = sorted(facts["labels"].items(), key=lambda item: (-item[1], str(item[0])))
        screen.table(("label", "rows"), most[:20], numbers="rows")
        if len(most) > 20:
            screen.say(f"... and {plural(len(most) - 20, 'more label')}")
    if facts["skipped"]:
        screen.say(f"{plural(len(facts['skipped']), 'input')} could not be read.")
    screen.say(f"The memory holds {plural(facts['rows'], 'row')} now.")
    screen.say(f"Ask it: recollect predict {memory} INPUTS")


def _previews(screen: Screen, ready: Ready) -> dict[str, Any]:
    """Small pictures, or the texts themselves, as arguments of ``Memory.add``."""
    inputs = ready.inputs
    if inputs.modality == "text":
        return {"metadata": {"text": list(inputs.inputs)}}
    pictures = []
    with screen.progress("Small pictures") as bar:
        for done, image in enumerate(inputs.inputs, start=1):
            pictures.append(thumbnail(image))
            if bar is not None:
                bar(done, len(inputs))
    return {"thumbnails": pictures}


def thumbnail(image: Any) -> bytes | None:
    """A picture of at most 64 x 64 pixels: PNG, or JPEG where that is smaller; None if unreadable.

    Args:
        image: Whatever an encoder of images takes.
    """
    from recollect.encoders import open_image

    try:
        picture = open_image(image)
    except RecollectError:
        return None  # it was encoded a moment ago; a file that vanished costs only its preview
    picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    files = []
    # Optimized files carry tables of their own: erasure searches for bytes that no other has.
    for kind, settings in (
        ("PNG", {"optimize": True}),
        ("JPEG", {"quality": 85, "optimize": True}),
    ):
        stream = BytesIO()
        picture.save(stream, kind, **settings)
        files.append(stream.getvalue())
    return min(files, key=len)

"""Yang et al., "ResMem: Learn what you can and memorize the rest" (NeurIPS 2023, arXiv 2302.01576).

Small networks on pictures, trained here; texts and tables with scikit-learn's models; next tokens;
and a shift of domain. Each part can be run on its own, and stopped: what was measured before is
kept beside the networks, line by line.
"""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from recollect.errors import InvalidParameter
from recollect.evaluation.datasets import cache_file
from recollect.evaluation.earlier import make_folder, not_ours, read_earlier
from recollect.evaluation.reproduce import residual_images, residual_others, residual_tables
from recollect.evaluation.reproduce.residual_measures import Lines, kept
from recollect.evaluation.reproduce.residual_memory_page import draw, page

STEM = "residual-memory"
PARTS = ("images", "layers", "tables", "language", "shift", "theory")

Progress = Callable[[str], object]
Study = Callable[[Lines], Any]


def run(
    *,
    data: Path,
    models: Path,
    out: Path,
    parts: Sequence[str] = PARTS,
    bases: Path | None = None,
    minutes: float = math.inf,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure parts of the study, and write JSON, page and pictures.

    Args:
        data: Folder of the data sets.
        models: Folder of the public networks.
        out: Folder for ``residual-memory.json``, ``.md`` and pictures. Parts that an earlier run
            left there are kept.
        parts: Some of ``images``, ``layers``, ``tables``, ``language``, ``shift``, ``theory``.
        bases: Folder of the networks trained here and of what was measured; None means one
            beside the cache of encodings.
        minutes: After which no further network or measurement is begun; the next run goes on.
            What is not ready is left out of the tables, unless an earlier run left it in ``out``.
        progress: Called with a line of text now and then.

    Returns:
        All figures, as plain values for JSON.

    Raises:
        InputError: Data or a network is not there, or a folder holds something else than an
            earlier run left.
        InvalidParameter: An unknown part.
        MissingExtra: A library is not installed.
    """
    _check_parts(parts)
    say: Progress = progress or (lambda _line: None)
    folder = cache_file().parent / "bases" if bases is None else Path(bases)
    path = make_folder(out) / f"{STEM}.json"
    report = _earlier(path)
    make_folder(folder)
    end = time.monotonic() + 60 * minutes
    studies = _studies(data, models, folder, end)
    report["paper"] = "ResMem, arXiv 2302.01576"
    for part in parts:
        lines = Lines(folder / f"{STEM}.notes", part, end, say)
        figures = studies[part](lines)
        report[part] = _together(part, report.get(part, {}).get("figures"), figures, lines)
        report["versions"] = _versions()
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (out / f"{STEM}.md").write_text(page(report), encoding="utf-8")
    draw(report, out, STEM)
    return report


def _earlier(path: Path) -> dict[str, Any]:
    """What an earlier run left: whole enough to be put on a page again."""
    report = read_earlier(path)
    try:
        page(report)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        told = f"{type(error).__name__}: {error}"
        raise not_ours(path, "figures of every part, as the page tells them", told) from error
    return report


def _check_parts(parts: Sequence[str]) -> None:
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise InvalidParameter(
            "there is no such part",
            expected=", ".join(PARTS),
            got=", ".join(unknown),
            remedy="Leave parts out for all of them.",
        )


def _studies(data: Path, models: Path, folder: Path, end: float) -> dict[str, Study]:
    """What measures each part."""
    return {
        "images": lambda lines: residual_images.pictures(data, folder, end, lines),
        "layers": lambda lines: residual_images.layers(data, folder, end, lines),
        "tables": lambda lines: residual_tables.tables(data, models, lines),
        "language": lambda lines: residual_others.language(data, folder, end, lines),
        "shift": lambda lines: residual_others.shift(data, models, folder, lines),
        "theory": residual_others.theory,
    }


def _together(part: str, before: Any, figures: Any, lines: Lines) -> dict[str, Any]:
    """Figures of this run, with those of an earlier one where this one was not ready."""
    mixed = bool(lines.missing and before)
    return {
        "figures": kept(part, before, figures) if mixed else figures,
        "seconds": None if mixed else round(lines.seconds, 1),
    }


def _versions() -> dict[str, Any]:
    import os
    from importlib.metadata import version

    from recollect import __version__

    return {
        "recollect": __version__,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        **{name: version(name) for name in ("numpy", "scikit-learn", "torch")},
    }

"""A table as one C99 header: tables, glimpse and look-up, nothing but <stdint.h>."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect import __version__
from recollect.errors import InvalidParameter, WriteFailed
from recollect.heads.lookup.c_text import BODY
from recollect.heads.lookup.compiled import limits_of
from recollect.heads.lookup.layout import Layout
from recollect.heads.lookup.predictor import LookupPredictor
from recollect.heads.lookup.readout import VOTES
from recollect.heads.lookup.tree import TreeSearch

_MOST_VOTERS = 1000
_LINE = 4000  # bytes of one string literal; compilers join them


def write_c(
    predictor: LookupPredictor, path: str | Path, *, name: str = "lookup"
) -> dict[str, int]:
    """Write a header whose ``int NAME_predict(const uint8_t *image)`` returns the class.

    Glimpses, distances, ties and votes are those of Python, in whole numbers, so that the answers
    are the same. A beam of the predictor takes the tree along.

    Args:
        predictor: The table with all an answer takes.
        path: File to make.
        name: Begins every name in the header.

    Returns:
        ``table`` (bytes of keys and values), ``tree`` (bytes of centers and links), ``header``
        (bytes of the file), ``rows``.

    Raises:
        InvalidParameter: Not 1 or 2 bits, pixels that are not bytes, or a name that C refuses.
        WriteFailed: The disk refused.
    """
    layout, table = predictor.layout, predictor.table
    _check(layout, name)
    _check_answers(predictor)
    key, value = (layout.key_width, layout.state + 2)
    rows = _rows(table.keys, layout)
    values = np.concatenate(
        [_planes(table.states[:, :-2], layout.h_bits), table.states[:, value - 2 :],
         _bytes_of(table.answers, _answer_bytes(predictor))],
        axis=1,
    )  # fmt: skip
    assert table.keys.shape[1] == key
    arrays = {"keys": rows, "values": values}
    numbers = {"parts": table.parts}
    tree: dict[str, NDArray[Any]] = {}
    if predictor.beam is not None:
        tree = _joined_trees(predictor)
        if "pivots" not in tree:
            centers = np.concatenate([t.centers for t in predictor.grown])
            arrays |= {"centers": _rows(centers, layout)}
    text = _text(predictor, name, arrays, numbers | tree, pivots="pivots" in tree)
    try:
        Path(path).write_text(text, encoding="ascii")
    except OSError as error:
        raise WriteFailed(f"the header could not be written: {error}") from error
    linked = sum(4 * block.size for block in tree.values())
    return {
        "rows": len(table),
        "table": rows.size + values.size,
        "tree": linked + arrays.get("centers", np.zeros(0)).size,
        "header": len(text),
    }


def _text(
    predictor: LookupPredictor, name: str, arrays: dict[str, NDArray[np.uint8]],
    numbers: dict[str, NDArray[Any]], *, pivots: bool,
) -> str:  # fmt: skip
    layout, costs = predictor.layout, predictor.costs.columns
    defines = {
        "SIDE": layout.side, "CELLS": layout.glimpse, "PATCHES": layout.patches,
        "STEPS": layout.glimpses, "STATE": layout.state, "PHI": layout.phi,
        "H_BITS": layout.h_bits, "PHI_BITS": layout.phi_bits,
        "COST_H": costs[0], "COST_L": costs[layout.state],
        "COST_PHI": costs[-1], "K": _voters(predictor), "BEAM": predictor.beam or 0,
        "CLASSES": len(predictor.classes), "ANSWER_BYTES": _answer_bytes(predictor),
        "PER_STEP": int(predictor.table.per_step), "VOTE": VOTES.index(predictor.vote),
        "SLACK": predictor.slack or 0, "PIVOTS": int(pivots),
    }  # fmt: skip
    big, labels = name.upper(), ", ".join(_quoted(str(label)) for label in predictor.classes)
    lines = [
        f"/* {len(predictor.table)} rows, exported by recollect {__version__}. Give one image as",
        f"   {layout.side} x {layout.side} bytes, row by row; {name}_predict returns its class. */",
        f"#ifndef {big}_H",
        f"#define {big}_H",
        "#include <stdint.h>",
        *(f"#define {big}_{key} {value}" for key, value in defines.items()),
        f"static const int {name}_cell_sides[] = {_list(np.array(layout.cell_sides))};",
        f"static const int32_t {name}_limits[] = {_list(limits_of(layout).reshape(-1))};",
        f"static const char *const {name}_names[] = {{{labels}}};",
        *(
            f"static const int32_t {name}_{key}[] = {_list(block)};"
            for key, block in numbers.items()
        ),
        *(
            f"static const unsigned char {name}_{key}[{block.size} + 8] ={_string(block)};"
            for key, block in arrays.items()
        ),
        BODY.replace("LOOKUP_", f"{big}_").replace("lookup_", f"{name}_"),
        "#endif",
    ]
    return "\n".join(lines) + "\n"


def _joined_trees(predictor: LookupPredictor) -> dict[str, NDArray[Any]]:
    """Lay the trees of all parts one after the other, so that every number is one array."""
    trees, parts = predictor.grown, predictor.table.parts
    nodes = np.cumsum([0, *(len(t.node_start) - 1 for t in trees)])
    centers = np.cumsum([0, *(len(t.centers) for t in trees)])
    leaves = np.cumsum([0, *(len(t.leaf_rows) for t in trees)])
    each = list(zip(trees, nodes, centers, leaves, parts, strict=False))
    end = np.array([centers[-1]]), np.array([leaves[-1]])
    return {
        "roots": nodes[:-1],
        "node_start": np.concatenate([*(t.node_start[:-1] + c for t, _, c, _, _ in each), end[0]]),
        "child": np.concatenate([np.where(t.child < 0, -1, t.child + n) for t, n, *_ in each]),
        "leaf_start": np.concatenate(
            [*(t.leaf_start[:-1] + at for t, _, _, at, _ in each), end[1]]
        ),
        "leaf_rows": np.concatenate([t.leaf_rows + first for t, _, _, _, first in each]),
    } | _joined_pivots(predictor)


def _joined_pivots(predictor: LookupPredictor) -> dict[str, NDArray[Any]]:
    trees, parts = predictor.grown, predictor.table.parts
    rows = [
        tree.pivots + first
        for tree, first in zip(trees, parts, strict=False)
        if tree.pivots is not None
    ]
    if len(rows) < len(trees) or not isinstance(predictor.search, TreeSearch):
        return {}
    return {"pivots": np.concatenate(rows), "reach": np.concatenate(predictor.search.reach)}


def _rows(keys: NDArray[Any], layout: Layout) -> NDArray[np.uint8]:
    h, phi = keys[:, : layout.state], keys[:, layout.state + 2 :]
    places = keys[:, layout.state : layout.state + 2].astype(np.uint8)
    return np.concatenate(
        [_planes(h, layout.h_bits), places, _planes(phi, layout.phi_bits)], axis=1
    )


def _planes(codes: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Pack each bit of the codes in bytes of its own, the highest bit first."""
    planes = [codes >> bit & 1 for bit in range(bits - 1, -1, -1)]
    return np.concatenate(
        [np.packbits(plane.astype(np.uint8), axis=1, bitorder="little") for plane in planes], axis=1
    )


def _voters(predictor: LookupPredictor) -> int:
    """Rows that may vote: no step has more rows than that."""
    return min(predictor.k, int(np.diff(predictor.table.parts).max()))


def _answer_bytes(predictor: LookupPredictor) -> int:
    return 1 if len(predictor.classes) <= 256 else 2


def _bytes_of(numbers: NDArray[np.int64], width: int) -> NDArray[np.uint8]:
    return np.stack([(numbers >> 8 * byte & 255).astype(np.uint8) for byte in range(width)], axis=1)


def _list(numbers: NDArray[Any]) -> str:
    return "{" + ",".join(map(str, numbers.tolist())) + "}"


def _string(block: NDArray[np.uint8]) -> str:
    octal = np.array([f"\\{byte:03o}" for byte in range(256)])
    whole = octal[block.reshape(-1)]
    lines = ["".join(whole[at : at + _LINE // 4]) for at in range(0, len(whole), _LINE // 4)]
    return "".join(f'\n"{line}"' for line in lines)


def _quoted(label: str) -> str:
    """Write a label as a C string: UTF-8, where what is not plain ASCII is written in octal."""
    raw = label.encode("utf-8", "surrogatepass")
    plain = set(range(32, 127)) - set(b'"\\?')
    return '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in raw) + '"'


def _check(layout: Layout, name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,30}", name):
        raise InvalidParameter(
            "name cannot begin a name in C", expected="small letters, digits, _", got=repr(name)
        )
    for part, bits in (("glimpse", layout.phi_bits), ("state", layout.h_bits)):
        if bits not in {1, 2}:
            raise InvalidParameter(
                f"the {part} has {bits} bits", expected="1 or 2", got=bits,
                remedy="Export plain arrays with export_npz, or train with bits=(2, 1).",
            )  # fmt: skip
    if not (float(layout.low).is_integer() and float(layout.high).is_integer()):
        raise InvalidParameter(
            "pixels are no bytes", expected="whole numbers from 0 to 255",
            got=f"{layout.low} to {layout.high}",
            remedy="Teach uint8 images, as the device will have them.",
        )  # fmt: skip


def _check_answers(predictor: LookupPredictor) -> None:
    if _voters(predictor) > _MOST_VOTERS:
        raise InvalidParameter(
            "too many rows vote for a small device", expected=f"k up to {_MOST_VOTERS}",
            got=predictor.k,
        )  # fmt: skip
    if any("\0" in str(label) for label in predictor.classes):
        raise InvalidParameter("a label holds a zero byte, which ends a name in C")

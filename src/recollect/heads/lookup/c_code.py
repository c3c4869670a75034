"""A table as one C99 header: tables, glimpse and look-up, nothing but <stdint.h>."""

from __future__ import annotations

import re
from dataclasses import dataclass
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
from recollect.heads.lookup.tree import Tree, TreeSearch
from recollect.types import Codes, Ids

_MOST_VOTERS = 1000
_LINK = 16  # bytes of what is said about a center of a tree
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
    records, numbers, linked = _records(table.keys, layout), {"parts": table.parts}, 0
    if predictor.beam is not None:
        records, numbers, linked = _laid_out(predictor)
    arrays = {
        "records": records,
        "fronts": _fronts(table.states, layout),
        "answers": _bytes_of(table.answers, _answer_bytes(predictor)),
    }
    text = _text(predictor, name, arrays, numbers)
    try:
        Path(path).write_text(text, encoding="ascii")
    except OSError as error:
        raise WriteFailed(f"the header could not be written: {error}") from error
    whole = sum(block.size for block in arrays.values())
    return {"rows": len(table), "table": whole - linked, "tree": linked, "header": len(text)}


def _text(
    predictor: LookupPredictor, name: str, arrays: dict[str, NDArray[np.uint8]],
    numbers: dict[str, NDArray[Any]],
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
        "SLACK": predictor.slack or 0, "PIVOTS": _pivots(predictor),
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


def _pivots(predictor: LookupPredictor) -> int:
    """Say whether centers are rows."""
    return int(all(tree.pivots is not None for tree in predictor.grown))


def _laid_out(predictor: LookupPredictor) -> tuple[NDArray[np.uint8], dict[str, Codes], int]:
    """Lay the trees of all parts one after the other, so that a way down reads side by side.

    Returns:
        Lines and records as bytes; ``roots``, where each root begins and its centers; how many of
        the bytes are lines and centers that are no rows.
    """
    assert isinstance(predictor.search, TreeSearch)
    table, layout = predictor.table, predictor.layout
    size = _records(table.keys[:1], layout).shape[1] + 4
    blocks, roots, begin = [], [], 0
    for part, (tree, reach) in enumerate(zip(predictor.grown, predictor.search.reach, strict=True)):
        within = table.part(part)
        walk = _walk(tree, size, begin)
        lines = np.stack([walk.below, walk.count, walk.own, reach], axis=1).astype("<i4")
        # What is no row is the number of a center, less 1, below 0.
        own = tree.centers[-1 - np.minimum(walk.met, -1)].astype(table.keys.dtype)
        keys = np.where((walk.met >= 0)[:, None], table.keys[within][walk.met], own)
        rows = np.where(walk.met >= 0, walk.met + within.start, 0).astype("<u4")
        records = np.concatenate([_records(keys, layout), _four_bytes(rows)], axis=1)
        block = np.zeros(_LINK * len(lines) + records.size, np.uint8)
        block[walk.line[:, None] - begin + np.arange(_LINK)] = _four_bytes(lines)
        block[walk.record[:, None] - begin + np.arange(size)] = records
        blocks.append(block)
        roots += [begin, int(tree.node_start[1])]
        begin += len(block)
    if begin >= 1 << 31:
        raise InvalidParameter(
            "the table is too large for one header", expected="less than 2 GiB", got=begin
        )
    linked = begin - size * len(table)
    return np.concatenate(blocks), {"roots": np.array(roots)}, linked


def _four_bytes(numbers: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(numbers).view(np.uint8).reshape(len(numbers), -1)


@dataclass(frozen=True, slots=True)
class _Walk:
    """Where everything of a tree lies, in bytes, and what it says.

    Attributes:
        line: int64 ``(centers,)``: where the line of each center is.
        below: int64 ``(centers,)``: where the node below begins, or the rows of the leaf.
        count: int64 ``(centers,)``: its centers, or -1 less the rows.
        own: int64 ``(centers,)``: where the record of the center is.
        met: int64 ``(records,)``: the row of each record, or -1 less the center that is no row.
        record: int64 ``(records,)``: where it is.
    """

    line: Codes
    below: Codes
    count: Codes
    own: Codes
    met: Ids
    record: Codes


def _walk(tree: Tree, size: int, begin: int) -> _Walk:
    """Lay out a tree with records of so many bytes, from ``begin`` on.

    Nodes come before what is below them, one subtree after the other; rows of a leaf stand with
    the node above it. A row that is the center of clusters within one another has one record.
    """
    starts, child, leaves = tree.node_start.tolist(), tree.child.tolist(), tree.leaf_start.tolist()
    rows, n = tree.leaf_rows.tolist(), len(child)
    pivots = range(-1, -1 - n, -1) if tree.pivots is None else tree.pivots.tolist()
    line, below, count = [0] * n, [0] * n, [0] * n
    node_at: dict[int, int] = {}
    place: dict[int, int] = {}  # of each row that was met

    def meet(row: int) -> None:
        nonlocal begin
        place[row] = begin
        begin += size

    for node in _downward(starts, child):
        node_at[node] = begin
        within = range(starts[node], starts[node + 1])
        for center in within:
            line[center] = begin
            begin += _LINK
        for center in within:
            if pivots[center] not in place:
                meet(pivots[center])
        for center in within:
            if child[center] >= 0:
                count[center] = starts[child[center] + 1] - starts[child[center]]
                continue
            held = [row for row in rows[leaves[center] : leaves[center + 1]]
                    if row != pivots[center]]  # fmt: skip
            below[center], count[center] = begin, -1 - len(held)
            for row in held:
                meet(row)
    for center in range(n):
        below[center] = node_at.get(child[center], below[center])
    own = [place[pivot] for pivot in pivots]
    numbers = (line, below, count, own, list(place), list(place.values()))
    return _Walk(*(np.array(column, np.int64) for column in numbers))


def _downward(starts: list[int], child: list[int]) -> list[int]:
    """Return the nodes of a tree, each before those below it, one subtree after the other."""
    order, left = [], [0]
    while left:
        node = left.pop()
        order.append(node)
        left += [child[center] for center in range(starts[node + 1] - 1, starts[node] - 1, -1)
                 if child[center] >= 0]  # fmt: skip
    return order


def _records(keys: NDArray[Any], layout: Layout) -> NDArray[np.uint8]:
    front = _fronts(keys[:, : layout.state + 2], layout)
    phi = _planes(keys[:, layout.state + 2 :], layout.phi_bits)
    return np.concatenate([front[:, :-2], phi, front[:, -2:]], axis=1)


def _fronts(states: NDArray[Any], layout: Layout) -> NDArray[np.uint8]:
    planes = _planes(states[:, : layout.state], layout.h_bits)
    return np.concatenate([planes, states[:, layout.state :].astype(np.uint8)], axis=1)


def _planes(codes: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Pack each bit of the codes in words of its own, the highest bit first."""
    spread = np.zeros((len(codes), -(-codes.shape[1] // 64) * 64), np.uint8)
    planes = []
    for bit in range(bits - 1, -1, -1):
        spread[:, : codes.shape[1]] = codes >> bit & 1
        planes.append(np.packbits(spread, axis=1, bitorder="little"))
    return np.concatenate(planes, axis=1)


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

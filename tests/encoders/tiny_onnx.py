"""ONNX files of a few bytes, written by hand: the format is protobuf, and no library is needed.

The numbers are the field numbers of onnx.proto.
"""

from __future__ import annotations

import numpy as np

FLOAT, INT64 = 1, 7


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def text(field: int, value: bytes | str) -> bytes:
    content = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def attribute(name: str, values: list[int]) -> bytes:
    """A list of integers."""
    return text(1, name) + b"".join(number(8, each) for each in values) + number(20, 7)


def node(kind: str, inputs: list[str], outputs: list[str], *attributes: bytes) -> bytes:
    return (
        b"".join(text(1, each) for each in inputs)
        + b"".join(text(2, each) for each in outputs)
        + text(4, kind)
        + b"".join(text(5, each) for each in attributes)
    )


def constant(name: str, values: np.ndarray) -> bytes:
    kind = INT64 if values.dtype.kind == "i" else FLOAT
    raw = values.astype("<i8" if kind == INT64 else "<f4").tobytes()
    dims = b"".join(number(1, side) for side in values.shape)
    return dims + number(2, kind) + text(8, name) + text(9, raw)


def external(name: str, shape: tuple[int, ...], file: str) -> bytes:
    """Weights that lie in another file."""
    dims = b"".join(number(1, side) for side in shape)
    place = text(13, text(1, "location") + text(2, file))
    return dims + number(2, FLOAT) + text(8, name) + place + number(14, 1)


def value(name: str, shape: tuple[int | str, ...], kind: int = FLOAT) -> bytes:
    sides = b"".join(
        text(1, number(1, side) if isinstance(side, int) else text(2, side)) for side in shape
    )
    return text(1, name) + text(2, text(1, number(1, kind) + text(2, sides)))


def model(
    nodes: list[bytes],
    inputs: list[bytes],
    outputs: list[bytes],
    constants: list[bytes] | None = None,
) -> bytes:
    graph = (
        b"".join(text(1, each) for each in nodes)
        + text(2, "tiny")
        + b"".join(text(5, each) for each in constants or [])
        + b"".join(text(11, each) for each in inputs)
        + b"".join(text(12, each) for each in outputs)
    )
    return number(1, 8) + text(7, graph) + text(8, number(2, 17))


IMAGE = value("image", ("N", 3, "H", "W"))


def mean_color(*, shape: tuple[int | str, ...] = ("N", 3, "H", "W")) -> bytes:
    """`pooled` (n, 3) is the mean of each channel, `map` the input, `negative` minus the mean."""
    return model(
        [
            node("ReduceMean", ["image"], ["mean"], attribute("axes", [2, 3])),
            node("Flatten", ["mean"], ["pooled"]),
            node("Neg", ["pooled"], ["negative"]),
            node("Identity", ["image"], ["map"]),
        ],
        [value("image", shape)],
        [
            value("pooled", ("N", 3)),
            value("negative", ("N", 3)),
            value("map", ("N", 3, "H", "W")),
        ],
    )


def token_vectors(table: np.ndarray) -> bytes:
    """`states` (n, length, dim): row of the table for each token."""
    return model(
        [node("Gather", ["table", "input_ids"], ["states"])],
        [value("input_ids", ("N", "L"), INT64)],
        [value("states", ("N", "L", int(table.shape[1])))],
        [constant("table", table)],
    )

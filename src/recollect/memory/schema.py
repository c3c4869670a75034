"""What a memory is, written down: its configuration, its tables and its format number."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from recollect.errors import CorruptMemory, InvalidParameter, UnsupportedFormat
from recollect.types import METRICS, VALUE_KINDS, Metric, ValueKind

FORMAT = 3
"""Raised when files change in a way older versions cannot read; older formats stay readable."""

DTYPES = ("float32", "float16", "uint8")
COLUMN_KINDS = frozenset({"str", "int", "float", "bool"})
MAX_DIM = 1 << 20

# A row of the table `rows` is one state of one row: it lives from version `born` up to, not
# including, version `died`. Its key lies in a segment file, where it never changes. What another
# checksum does not cover has one of its own. The number of a segment is never used again, so that
# no reader takes a new file for one that it has mapped.
TABLES = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE versions (
    version INTEGER PRIMARY KEY, time REAL NOT NULL, operation TEXT NOT NULL,
    rows INTEGER NOT NULL, changed INTEGER NOT NULL, sum INTEGER NOT NULL);
CREATE TABLE segments (
    segment INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, file TEXT NOT NULL UNIQUE,
    bytes INTEGER NOT NULL);
CREATE TABLE labels (code INTEGER PRIMARY KEY, label NOT NULL UNIQUE);
CREATE TABLE columns (name TEXT PRIMARY KEY, kind TEXT NOT NULL, place TEXT NOT NULL UNIQUE);
CREATE TABLE rows (
    state INTEGER PRIMARY KEY, id INTEGER NOT NULL, born INTEGER NOT NULL, died INTEGER,
    segment INTEGER NOT NULL, record INTEGER NOT NULL, key_sum INTEGER NOT NULL,
    norm REAL NOT NULL, code INTEGER, number REAL,
    value_segment INTEGER, value_start INTEGER, value_bytes INTEGER, value_sum INTEGER,
    weight REAL NOT NULL, source TEXT, row_sum INTEGER NOT NULL);
CREATE INDEX rows_by_id ON rows (id);
CREATE TABLE thumbnails (
    id INTEGER PRIMARY KEY, picture BLOB NOT NULL, sum INTEGER NOT NULL);
CREATE TABLE retired (id INTEGER PRIMARY KEY, sum INTEGER NOT NULL);
"""
"""The tables of format 1."""

# Each version and each segment of keys has an encoding: 0 is the configuration that the memory was
# created with, the others stand in their own table. What must not return is kept as keyed digests.
ENCODINGS = """
ALTER TABLE versions ADD COLUMN encoding INTEGER NOT NULL DEFAULT 0;
ALTER TABLE segments ADD COLUMN encoding INTEGER NOT NULL DEFAULT 0;
CREATE TABLE encodings (
    encoding INTEGER PRIMARY KEY, configuration TEXT NOT NULL, sum INTEGER NOT NULL);
CREATE TABLE no_return (
    digest BLOB NOT NULL, id INTEGER NOT NULL, kind TEXT NOT NULL, version INTEGER NOT NULL,
    sum INTEGER NOT NULL, PRIMARY KEY (digest, id)) WITHOUT ROWID;
"""

# States that have ended and do not say so themselves yet: a thousand rows that lie far apart end
# with a few pages written instead of a thousand (docs/decisions/0019-endings-apart.md).
ENDED = """
CREATE TABLE ended (state INTEGER PRIMARY KEY, version INTEGER NOT NULL);
"""

UPGRADES = {2: ENCODINGS, 3: ENDED}
"""What each format adds. An older memory is given it by the first write that needs it."""

STATE_COLUMNS = (
    "id", "born", "died", "segment", "record", "key_sum", "norm", "code", "number",
    "value_segment", "value_start", "value_bytes", "value_sum", "weight", "source", "row_sum",
)  # fmt: skip

VALUE_COLUMNS: dict[ValueKind, tuple[str, ...]] = {
    "label": ("code",),
    "number": ("number",),
    "vector": ("value_segment", "value_start", "value_bytes", "value_sum"),
    "arrays": ("value_segment", "value_start", "value_bytes", "value_sum"),
}
"""Columns that a state uses for its value; the others are NULL."""

NULL = type(None)
STATE_TYPES: dict[str, tuple[type, ...]] = dict.fromkeys(STATE_COLUMNS, (int,)) | {
    "died": (int, NULL), "norm": (float,), "code": (int, NULL), "number": (float, NULL),
    "value_segment": (int, NULL), "value_start": (int, NULL), "value_bytes": (int, NULL),
    "value_sum": (int, NULL), "weight": (float,), "source": (str, NULL),
}  # fmt: skip
CELL_TYPES = {"str": (str, NULL), "int": (int, NULL), "float": (float, NULL), "bool": (int, NULL)}
"""What SQLite gives back for a metadata column of each kind."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What was fixed when the memory was created.

    Attributes:
        dim: Width of a key.
        metric: How keys are compared.
        value: What a row answers with: a label, a number, a vector, or named arrays.
        value_dim: Width of a vector value; None for the other kinds.
        dtype: How keys are stored: ``float32``, ``float16`` or ``uint8``.
        metric_weights: One factor per dimension for the Manhattan metric, or None.
        encoder: Fingerprint of the encoder that makes the keys, or None if they come as they are.
        encoder_spec: Recipe that builds this encoder again, or None.
    """

    dim: int
    metric: Metric = "cosine"
    value: ValueKind = "label"
    value_dim: int | None = None
    dtype: str = "float32"
    metric_weights: tuple[float, ...] | None = None
    encoder: str | None = None
    encoder_spec: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        _check_integer("dim", self.dim, 1, MAX_DIM)
        _check_choice("metric", self.metric, METRICS)
        _check_choice("value", self.value, VALUE_KINDS)
        _check_choice("dtype", self.dtype, DTYPES)
        if self.value == "vector":
            if self.value_dim is None:
                raise InvalidParameter(
                    "a memory of vectors needs their width",
                    expected="value_dim=width",
                    got="None",
                    remedy='Create it with value="vector", value_dim=width.',
                )
            _check_integer("value_dim", self.value_dim, 1, MAX_DIM)
        elif self.value_dim is not None:
            raise InvalidParameter(
                "value_dim is the width of vector values",
                expected='value="vector"',
                got=f"value={self.value!r}",
                remedy="Leave value_dim out.",
            )
        self._check_metric_weights()
        self._check_encoder()

    def _check_encoder(self) -> None:
        try:
            json.dumps(self.encoder_spec)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidParameter(
                "the recipe of the encoder cannot be written down",
                expected="a dict of plain values, as JSON knows them",
                got=f"{error}",
                remedy="Let the encoder's `spec` be None if it cannot be described.",
            ) from error
        if not isinstance(self.encoder, str | None) or not isinstance(
            self.encoder_spec, dict | None
        ):
            raise InvalidParameter(
                "the encoder is not described",
                expected="a text fingerprint, and a dict or None as its spec",
                got=f"{type(self.encoder).__name__} and {type(self.encoder_spec).__name__}",
                remedy="See recollect.encoders.Encoder for what an encoder promises.",
            )

    def _check_metric_weights(self) -> None:
        if self.metric_weights is None:
            return
        weights = np.asarray(self.metric_weights, float)
        if self.metric != "manhattan" or weights.shape != (self.dim,):
            raise InvalidParameter(
                "metric_weights belong to the Manhattan metric, one per dimension",
                expected=f"({self.dim},) numbers with metric='manhattan'",
                got=f"shape {weights.shape} with metric={self.metric!r}",
                remedy="Scale the keys yourself for another metric.",
            )
        if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
            raise InvalidParameter(
                "metric_weights are out of range",
                expected="finite numbers >= 0, at least one above 0",
                got=str(weights.tolist())[:80],
                remedy="Give every dimension a factor of 0 or more.",
            )

    @property
    def key_dtype(self) -> np.dtype[Any]:
        """Little-endian dtype of stored keys."""
        return np.dtype(self.dtype).newbyteorder("<")

    @property
    def record_bytes(self) -> int:
        """Bytes of one stored key."""
        return self.dim * self.key_dtype.itemsize

    def to_json(self) -> str:
        """Write the configuration as JSON text."""
        return json.dumps(asdict(self), sort_keys=True)


@dataclass(frozen=True, slots=True)
class Recorded:
    """An encoder known by what was recorded of it: fingerprint and recipe."""

    fingerprint: str | None
    spec: dict[str, Any] | None


def describe_encoder(encoder: Any) -> tuple[str | None, dict[str, Any] | None]:
    """Return fingerprint and spec of an encoder, of a fingerprint, or of None."""
    if encoder is None or isinstance(encoder, str):
        return encoder, None
    fingerprint = getattr(encoder, "fingerprint", ...)
    if fingerprint is not None and not isinstance(fingerprint, str):
        raise InvalidParameter(
            "this is no encoder",
            expected="an object with a text attribute `fingerprint`, or that text",
            got=type(encoder).__name__,
            remedy="See recollect.encoders.Encoder for what an encoder promises.",
        )
    return fingerprint, getattr(encoder, "spec", None)


def parse_configuration(text: str, checksum: str) -> Configuration:
    """Read a configuration back; nothing of it is used before all of it was judged.

    Raises:
        CorruptMemory: The text is not what was written, or describes an impossible memory.
    """
    if str(zlib.crc32(text.encode())) != checksum:
        raise CorruptMemory(
            "the configuration of the memory was altered",
            expected=f"checksum {checksum}",
            got=zlib.crc32(text.encode()),
            remedy="Bring the folder back from a backup, or import an exported copy.",
        )
    try:
        fields = json.loads(text)
        if isinstance(fields.get("metric_weights"), list):
            fields["metric_weights"] = tuple(fields["metric_weights"])
        return Configuration(**fields)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptMemory(f"the configuration of the memory cannot be read: {error}") from error


def check_format(number: int, *, where: str) -> None:
    """Refuse a format this version does not know.

    Raises:
        UnsupportedFormat: Written by a newer version.
        CorruptMemory: No format number that was ever written.
    """
    if number > FORMAT:
        raise UnsupportedFormat(
            f"the memory at {where!r} was written by a newer version",
            expected=f"format 1 to {FORMAT}",
            got=f"format {number}",
            remedy="Upgrade with: pip install --upgrade recollect",
        )
    if number < 1:
        raise CorruptMemory(
            f"the catalog at {where!r} is not one of a memory",
            expected=f"format 1 to {FORMAT}",
            got=f"format {number}",
            remedy="Check the path; bring the folder back from a backup if it was damaged.",
        )


def _check_integer(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidParameter(
            f"{name} is out of range",
            expected=f"an integer from {low} to {high}",
            got=repr(value),
            remedy=f"Pass {name}= as a Python int.",
        )


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidParameter(
            f"{name} is not known",
            expected=f"one of {', '.join(choices)}",
            got=repr(value),
            remedy=f"Choose {name}={choices[0]!r} if unsure.",
        )

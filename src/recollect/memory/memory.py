"""`Memory`: rows that can be taught, asked, corrected and erased, each write one version."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from numpy.typing import ArrayLike

from recollect.errors import InvalidParameter
from recollect.index.policy import Policy
from recollect.memory import checks, interchange, verification
from recollect.memory.forgetting import Forgetting
from recollect.memory.founding import as_folder, create_folder, create_ram
from recollect.memory.schema import Configuration, Recorded, describe_encoder
from recollect.memory.searching import Searching
from recollect.memory.store import Store
from recollect.types import Metric, Rows, ValueKind

if TYPE_CHECKING:
    import pyarrow as pa

RAM = ":memory:"
Check = Literal["auto"] | bool


class Memory(Forgetting):
    """Rows of keys and values that last, with an answer to "which rows are nearest?".

    Make one with :meth:`create` or :meth:`open`, not by calling the class. A memory opened for
    writing holds an exclusive lock until :meth:`close`; any number of processes may read it
    meanwhile. Every write is one atomic version: it is on the disk when the call returns, and a
    call that raised changed nothing. Safe to share between threads.

    Example:
        >>> with Memory.create(":memory:", dim=2) as memory:
        ...     ids = memory.add([[1, 0], [0, 1]], ["cat", "dog"])
        ...     near = memory.search([[0.9, 0.1]], k=1)
        >>> near.values.tolist(), near.ids.tolist()
        ([['cat']], [[0]])
    """

    @classmethod
    def create(
        cls,
        uri: str | Path,
        *,
        dim: int,
        metric: Metric = "cosine",
        value: ValueKind = "label",
        encoder: Any = None,
        value_dim: int | None = None,
        metric_weights: ArrayLike | None = None,
        dtype: str = "float32",
        search: Policy = "exact",
        timeout: float = 0.0,
        clock: Callable[[], float] = time.time,
    ) -> Self:
        """Make an empty memory and open it for writing.

        Args:
            uri: Path of a folder that does not exist yet or is empty; ``":memory:"`` for a memory
                that does not outlive the process.
            dim: Width of a key.
            metric: ``cosine``, ``dot``, ``euclidean`` or ``manhattan``.
            value: What a row answers with: ``label`` (all str or all int), ``number`` (float64),
                ``vector`` (float32, width ``value_dim``), or ``arrays`` (a dict of named arrays).
            encoder: The encoder that makes the keys, or its fingerprint; None if keys come as
                they are. It is recorded, and another one is refused later.
            value_dim: Width of vector values.
            metric_weights: ``(dim,)`` factors of 0 or more for the Manhattan metric.
            dtype: How keys are stored: ``float32``, ``float16`` or ``uint8``.
            search: As for :meth:`open`.
            timeout: Seconds to wait for another writer.
            clock: Gives the time of each write, in seconds since 1970.

        Raises:
            MemoryExists: There is something at this place.
            InvalidParameter: An option is out of range.
        """
        fingerprint, spec = describe_encoder(encoder)
        config = Configuration(
            dim=checks.as_int("dim", dim),
            metric=metric,
            value=value,
            value_dim=None if value_dim is None else checks.as_int("value_dim", value_dim),
            dtype=str(dtype),
            metric_weights=checks.check_metric_weights(metric_weights),
            encoder=fingerprint,
            encoder_spec=spec,
        )
        patience, searching = checks.check_timeout(timeout), Searching(search)
        if str(uri) == RAM:
            return cls(create_ram(config, clock), uri=RAM, searching=searching)
        folder = as_folder(uri)
        create_folder(folder, config, clock)
        store = Store(folder, timeout=patience, clock=clock)
        return cls(store, uri=str(uri), searching=searching)

    @classmethod
    def open(
        cls,
        uri: str | Path,
        version: int | None = None,
        read_only: bool = False,  # noqa: FBT001, FBT002 - the third argument by design
        *,
        encoder: Any = None,
        search: Policy = "exact",
        timeout: float = 0.0,
        check: Check = "auto",
        clock: Callable[[], float] = time.time,
    ) -> Self:
        """Open a memory.

        Args:
            uri: Its folder.
            version: A past version to look at, read-only; None for the newest.
            read_only: Take no lock; answers follow the commits of a writer elsewhere.
            encoder: The encoder in use, or its fingerprint; refused unless the memory's keys come
                from it. None skips the comparison.
            search: How questions are answered through this handle: ``"exact"``; ``"approximate"``,
                which looks at few of many rows and holds a recall of 0.99; or an
                ``Approximate(recall=...)`` with other settings.
            timeout: Seconds to wait for another writer.
            check: True verifies every byte first, False only the structure, ``"auto"`` every byte
                of a memory below 64 MiB. In any case all keys are compared with their checksums
                before the first answer, and every stored value before it is given out.
            clock: Gives the time of each write, in seconds since 1970.

        Raises:
            MemoryNotFound: There is no memory.
            MemoryLocked: Another writer holds it.
            CorruptMemory: Its bytes are not those that were written.
            UnsupportedFormat: A newer version wrote it.
            EncoderMismatch: Its keys come from another encoder.
            MissingExtra: Approximate search needs faiss.
            UnknownVersion: It has no such version.
        """
        if str(uri) == RAM:
            raise InvalidParameter(
                "a memory in RAM cannot be opened again", got=RAM, remedy="Use Memory.create."
            )
        if not (isinstance(check, bool) or check == "auto"):
            raise InvalidParameter("check is not known", expected="True, False or 'auto'",
                                   got=repr(check), remedy="Leave it out.")  # fmt: skip
        searching = Searching(search)
        store = Store(
            as_folder(uri),
            read_only=read_only or version is not None,
            timeout=checks.check_timeout(timeout),
            clock=clock,
        )
        try:
            pinned = None if version is None else store.check_version(version)
            memory = cls(store, uri=str(uri), pinned=pinned, searching=searching)
            memory.check_encoder(encoder)
            memory._expected = describe_encoder(encoder)[0]
            with memory._snapshot(lambda: verification.check_on_open(store, check)):
                pass
        except BaseException:
            store.close()
            raise
        return memory

    # -- from elsewhere ------------------------------------------------------------------------

    @classmethod
    def from_arrow(cls, uri: str | Path, table: pa.Table) -> Self:
        """Make a memory from an Arrow table with the rows and ids of :meth:`to_arrow`."""
        return cls._from_rows(uri, *interchange.from_arrow(table))

    @classmethod
    def from_parquet(cls, uri: str | Path, path: str | Path) -> Self:
        """Make a memory from a file of :meth:`to_parquet`."""
        return cls._from_rows(uri, *interchange.from_parquet(path))

    @classmethod
    def _from_rows(cls, uri: str | Path, rows: Rows, about: dict[str, Any]) -> Self:
        memory = cls.create(
            uri,
            dim=rows.keys.shape[1],
            dtype=rows.keys.dtype.name,
            encoder=Recorded(about.get("encoder"), about.get("encoder_spec")),
            **{name: about[name] for name in ("metric", "value", "value_dim", "metric_weights")},
        )
        try:
            if len(rows):
                memory.add(
                    rows.keys, rows.values, ids=rows.ids, weights=rows.weights,
                    sources=rows.sources, metadata=rows.metadata,
                )  # fmt: skip
        except BaseException:
            memory.close()
            if memory.uri != RAM:  # it was made by this call and holds nothing
                shutil.rmtree(as_folder(uri))
            raise
        return memory

"""Search with torch, on the processor or a GPU: int8 products, and the proof of ``quantized``.

Codes of all rows are made once and kept as tensors on the device; a block of queries meets them
tile by tile. What reaches the bar of its query is brought back as a candidate, and scored from its
key by the one similarity that decides. So a GPU holds codes only, a quarter of the keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InvalidParameter, MissingExtra
from recollect.index.blocks import Block
from recollect.index.coarse import FLOOR, UNIT, Coarse
from recollect.index.quantized import WIDEST, is_stale, mean_of_rows
from recollect.index.shortlist import LOWEST, Shortlist
from recollect.types import Doubles, Floats

if TYPE_CHECKING:
    from recollect.index.scope import Batch, Scope

TOP = 127
WIDER = 1.0 + 1e-6  # as in native/lanes.c
SMALLEST = 1e-30
MULTIPLE = 8  # widths and numbers of queries that int8 products of a GPU take
FEWEST = 32  # queries of a GPU's product, at least
GROUP = 32  # rows of which the best sets the first bar
EXACT = 1024  # 127 * 127 * 1024 < 2^24
CHUNK = 1 << 20  # numbers quantized at a time
TABLE = {"cpu": 1 << 20, "cuda": 1 << 26}  # scores held at a time


@dataclass(frozen=True, eq=False)
class Coded:
    """Vectors as codes: vector = alpha * code, up to what the bounds say.

    Attributes:
        codes: int8 ``(n, padded dim)``.
        alpha: float32 ``(n,)``.
        rest: float64 ``(n,)``: length of what the codes leave out.
    """

    codes: NDArray[np.int8]
    alpha: Floats
    rest: Doubles


def encode(vectors: Doubles) -> Coded:
    """Round vectors to 255 steps each.

    Args:
        vectors: float64 ``(n, dim)``.

    Example:
        >>> coded = encode(np.array([[1.0, -0.5]]))
        >>> coded.codes[0, :2].tolist(), bool(coded.rest[0] < 0.01)
        ([127, -63], True)
    """
    rows, dim = vectors.shape
    top = np.abs(vectors).max(axis=1, initial=0.0)
    alpha = np.where(top > SMALLEST, top / TOP * (1.0 + 2.0**-22), 0.0).astype(np.float32)
    step = np.where(alpha > 0, alpha, 1.0).astype(np.float64)[:, None]
    whole = np.rint(vectors / step) * (alpha > 0)[:, None]
    codes = np.zeros((rows, -(-dim // MULTIPLE) * MULTIPLE), np.int8)
    codes[:, :dim] = whole
    return Coded(codes, alpha, np.linalg.norm(vectors - whole * step, axis=1))


@dataclass(frozen=True, eq=False)
class _Rows:
    """Codes of rows on the device, and rho, sigma, tau of each, float32 ``(3, n)``, here."""

    center: Doubles
    codes: Any
    alpha: Any
    term: Any
    bounds: Floats


@dataclass(frozen=True, eq=False)
class _Asked:
    """Codes and bounds of a block of queries."""

    codes: Any  # int8 (padded dim, queries), on the device
    beta: Any
    reach: Doubles
    blur: Doubles
    slack: Doubles


class TensorEngine:
    """The first pass in torch, for one index.

    Args:
        coarse: The metric; not Manhattan, which is no product.
        device: ``"cpu"`` or ``"cuda"``.

    Raises:
        MissingExtra: torch is not installed.
    """

    def __init__(self, coarse: Coarse, device: str = "cpu") -> None:
        try:
            import torch
        except ImportError as missing:
            raise MissingExtra(
                "searching with torch needs torch", remedy="pip install 'recollect[torch]'"
            ) from missing
        if device == "cuda" and not torch.cuda.is_available():
            raise InvalidParameter(
                "there is no GPU that torch can use",
                expected="a CUDA device and a torch that was built for it",
                got=f"torch {torch.__version__}",
                remedy="Leave the choice to the library, or ask for 'torch' or 'kernel'.",
            )
        self._torch, self.coarse = torch, coarse
        self.device = device
        self._whole = multiplies_bytes(device)
        # Products in float32 are whole numbers, and exact, up to that width.
        widest = WIDEST if self._whole else EXACT
        self.suits = coarse.metric != "manhattan" and coarse.dim <= widest
        self._center: Doubles | None = None
        self._rows = 0

    def candidates(
        self, scope: Scope, batch: Batch, shortlist: Shortlist
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Find all that may be among the nearest, as queries, ascending, and slots.

        Args:
            scope: The rows; every place is a slot.
            batch: Regular queries.
            shortlist: An empty one, for these queries.
        """
        if self._center is None or is_stale(scope.snapshot.slots, self._rows):
            self._center = mean_of_rows(self.coarse, scope.snapshot).astype(np.float64)
            self._rows = scope.snapshot.slots
        center = self._center
        asked = self._asked(batch, center)
        step = max(GROUP, TABLE[self.device] // len(batch) // GROUP * GROUP)
        tables = self._tables(min(step, scope.snapshot.slots), asked)
        begun = False
        for block, start in zip(scope.snapshot.blocks, scope.snapshot.starts, strict=False):
            rows = self._coded(block, center)
            for first in range(0, len(block), step):
                part = slice(first, min(first + step, len(block)))
                scores = self._scores(rows, part, asked, tables)
                self._bar(scope, batch, scores, int(start) + first)
                self._offer(shortlist, scores, rows, part, asked, int(start), begun=begun)
                begun = True
        return shortlist.finish()

    def _asked(self, batch: Batch, center: Doubles) -> _Asked:
        queries = batch.queries.astype(np.float64)
        metric, sizes = self.coarse.metric, batch.sizes
        slack = np.full(len(batch), FLOOR)
        if metric in {"cosine", "dot"}:
            queries = queries / sizes[:, None]
        if metric != "dot":
            queries = queries - center
        if metric == "cosine":
            slack += 8.0 * UNIT
        elif metric == "euclidean":
            slack += 8.0 * UNIT * (queries * queries).sum(axis=1)
            queries = 2.0 * queries
        coded = encode(queries)
        reach = np.linalg.norm(queries, axis=1) + coded.rest
        codes, beta = coded.codes, coded.alpha
        if self.device != "cpu" and len(codes) % FEWEST:
            missing = -len(codes) % FEWEST
            codes, beta = np.pad(codes, ((0, missing), (0, 0))), np.pad(beta, (0, missing))
        return _Asked(
            self._sent(codes).t(),
            self._sent(beta),
            WIDER * reach,
            WIDER * (coded.rest + 16.0 * UNIT * reach),
            WIDER * slack,
        )

    def _coded(self, block: Block, center: Doubles) -> _Rows:
        """Return the rows of a block; only those that are new since last time are coded."""
        shadow = block.shadows[0]
        with shadow.lock:
            known: _Rows | None = shadow.tensors
            if known is None or known.center is not center:
                known = _Rows(center, None, None, None, np.zeros((3, 0), np.float32))
            step = max(1, CHUNK // self.coarse.dim)
            made = [
                self._made(block, slice(start, min(start + step, len(block))), center)
                for start in range(known.bounds.shape[1], len(block), step)
            ]
            if made:
                known = self._joined([known, *made] if known.bounds.size else made)
                shadow.tensors = known
            return known

    def _joined(self, parts: list[_Rows]) -> _Rows:
        join = self._torch.cat
        return _Rows(
            parts[0].center,
            join([part.codes for part in parts]),
            join([part.alpha for part in parts]),
            join([part.term for part in parts]),
            np.concatenate([part.bounds for part in parts], axis=1),
        )

    def _made(self, block: Block, part: slice, center: Doubles) -> _Rows:
        metric, sizes = self.coarse.metric, block.sizes[part]
        odd = np.zeros(len(sizes), bool) if block.regular is None else ~block.regular[part]
        rows = block.keys[part].astype(np.float64)
        rows[odd] = 0.0
        if metric == "cosine":
            rows /= np.where(odd, 1.0, sizes)[:, None]
        rows -= center
        size = np.linalg.norm(rows, axis=1)
        coded = encode(rows)
        shift = np.zeros(len(rows))
        if metric == "cosine":
            shift = rows @ center
            slack = 8.0 * UNIT * np.abs(shift)
        elif metric == "euclidean":
            shift = -size * size
            slack = 16.0 * UNIT * size * size
        else:
            slack = 8.0 * UNIT * (np.where(odd, 0.0, sizes) + float(np.linalg.norm(center)))
        bounds = WIDER * np.stack([coded.rest, size, slack + FLOOR])
        return _Rows(
            center,
            self._sent(coded.codes),
            self._sent(coded.alpha),
            self._sent(shift.astype(np.float32)),
            bounds.astype(np.float32),
        )

    def _sent(self, array: NDArray[Any]) -> Any:
        return self._torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def _tables(self, rows: int, asked: _Asked) -> tuple[Any, Any]:
        """Make room for the products and scores of a tile; memory that is new each time is slow."""
        torch, queries = self._torch, asked.codes.shape[1]
        whole = torch.int32 if self._whole else torch.float32
        products = torch.empty((rows, queries), dtype=whole, device=self.device)
        return products, torch.empty((rows, queries), device=self.device)

    def _scores(self, rows: _Rows, part: slice, asked: _Asked, tables: tuple[Any, Any]) -> Any:
        """Score rows, float32 ``(rows, queries)`` on the device."""
        torch, codes = self._torch, rows.codes[part]
        products, scores = (table[: len(codes)] for table in tables)
        if self._whole:
            torch._int_mm(codes, asked.codes, out=products)  # noqa: SLF001 - probed before
        else:
            torch.mm(codes.float(), asked.codes.float(), out=products)
        # A copy turns whole numbers into floats several times as fast as a product of both.
        scores.copy_(products).mul_(rows.alpha[part, None])
        return torch.addcmul(rows.term[part, None], scores, asked.beta, out=scores)

    def _bar(self, scope: Scope, batch: Batch, scores: Any, start: int) -> None:
        """Lower the scores of rows that take no part below all others."""
        if scope.banned is not None:
            out = np.flatnonzero(scope.banned[start : start + len(scores)])
            scores[self._sent(out)] = -np.inf
        if batch.barred is not None:
            query, slots = batch.barred
            here = (slots >= start) & (slots < start + len(scores))
            scores[self._sent(slots[here] - start), self._sent(query[here])] = -np.inf

    def _offer(
        self,
        shortlist: Shortlist,
        scores: Any,
        rows: _Rows,
        part: slice,
        asked: _Asked,
        start: int,
        *,
        begun: bool,
    ) -> None:
        torch, queries = self._torch, len(asked.reach)
        largest = rows.bounds[:, part].max(axis=1).astype(np.float64)
        error = largest[0] * asked.reach + largest[1] * asked.blur + largest[2] + asked.slack
        error = WIDER * error
        whole = len(scores) // GROUP
        if not begun and whole >= shortlist.k:
            best = scores[: whole * GROUP, :queries].reshape(GROUP, whole, queries).amax(dim=0)
            kth = best.topk(shortlist.k, dim=0).values[-1].cpu().numpy()
            shortlist.raise_threshold((kth - error).astype(np.float32))
        with np.errstate(over="ignore"):
            limit = (shortlist.threshold - error).astype(np.float32)
            limit = np.nextafter(limit, np.float32(-np.inf))
        limit = np.maximum(limit, LOWEST)  # whatever the bound, rows that take no part stay out
        if self.device == "cpu":  # where NumPy compares and looks faster
            table = scores.numpy()
            place, query = np.divmod(np.flatnonzero(table >= limit), queries)
            found = table[place, query]
        else:
            where = torch.nonzero(scores[:, :queries] >= self._sent(limit))
            found = scores[where[:, 0], where[:, 1]].cpu().numpy()
            place, query = where.cpu().numpy().T
        rho, sigma, tau = rows.bounds[:, part.start + place].astype(np.float64)
        bound = rho * asked.reach[query] + sigma * asked.blur[query] + tau + asked.slack[query]
        bound = (WIDER * bound).astype(np.float32)
        stay = found + bound >= shortlist.threshold[query]
        place = place[stay] + start + part.start
        shortlist.offer(query[stay], place, found[stay], bound[stay])


def multiplies_bytes(device: str) -> bool:
    """Probe whether this torch multiplies int8 matrices into int32 here, and rightly."""
    import torch

    if not hasattr(torch, "_int_mm"):
        return False
    left = torch.arange(-64, 64, dtype=torch.int8).reshape(4, 32).repeat(16, 1).to(device)
    try:
        product = torch._int_mm(left, left.t())  # noqa: SLF001 - that is what is probed
    except (RuntimeError, NotImplementedError):
        return False
    exact = left.cpu().numpy().astype(np.int32)
    return product.dtype == torch.int32 and bool((product.cpu().numpy() == exact @ exact.T).all())

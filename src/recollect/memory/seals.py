"""Seals: sums of large blocks of bytes, read as fast as memory can be read.

A CRC-32 for each key costs some tenths of a microsecond of its own and finds the row that is
damaged. A seal answers one question, several times as fast: are these still the bytes for which all
of that was done? It is the sum of the block's 64-bit words times odd factors, modulo 2^64. A factor
is odd, so every flipped bit changes the sum, and bytes of another origin pass once in 2^64 times.
The factor of a highest bit would not matter, and two of them would always cancel out; so the upper
half of each word is folded into its lower half first, and two flipped bits have one chance in some
2^32. Not none: therefore a row that an answer names is compared with its CRC-32 all the same, and
`verify` reads nothing else. Like all checksums here, seals find damage and stop no forger.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 16
WORDS = 256  # in a line, whose sum is a word of the block's
LINES = BLOCK // (8 * WORDS)
AT_ONCE = 64  # blocks: 4 MiB
THREADS = 2  # one core does not read as fast as memory can be read

Seals = NDArray[np.uint64]


@cache
def _factors(count: int, seed: int) -> NDArray[np.uint64]:
    """Odd factors, from SplitMix64 (Steele et al., 2014), the same on any machine."""
    numbers = np.arange(1, count + 1, dtype=np.uint64) + np.uint64(seed << 32)
    numbers *= np.uint64(0x9E3779B97F4A7C15)
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (numbers ^ (numbers >> np.uint64(31))) | np.uint64(1)


def seal(content: NDArray[np.uint8]) -> Seals:
    """Sum up bytes, block by block, in a fixed number of threads.

    Args:
        content: uint8 ``(bytes,)``, without gaps.

    Returns:
        uint64 ``(blocks,)``; the last block may be shorter than the others.

    Example:
        >>> content = np.arange(200, dtype=np.uint8)
        >>> before = seal(content)
        >>> content[7] ^= 1
        >>> len(before), bool((seal(content) == before).all())
        (1, False)
    """
    whole = len(content) // BLOCK
    seals = np.zeros(-(-len(content) // BLOCK), np.uint64)

    def work(start: int) -> None:
        """Seal the whole blocks of one stretch; threads write to different places."""
        part = slice(start, min(start + AT_ONCE, whole))
        seals[part] = _sums(content[part.start * BLOCK : part.stop * BLOCK])

    starts = range(0, whole, AT_ONCE)
    if len(starts) > 1:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(work, starts))
    elif whole:
        work(0)
    if whole < len(seals):
        last = np.zeros(BLOCK, np.uint8)
        last[: len(content) - whole * BLOCK] = content[whole * BLOCK :]
        seals[whole] = _sums(last)[0] + np.uint64(len(content))  # zeros at the end count, too
    return seals


def _sums(content: NDArray[np.uint8]) -> Seals:
    """Sum up whole blocks."""
    words = np.ascontiguousarray(content).view("<u8").reshape(-1, WORDS)
    words = words ^ (words >> np.uint64(32))
    lines = np.einsum("ij,j->i", words, _factors(WORDS, 1))
    sums: Seals = np.einsum("ij,j->i", lines.reshape(-1, LINES), _factors(LINES, 2))
    return sums

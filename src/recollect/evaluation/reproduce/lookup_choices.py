"""Which ways down the tree the reproduction of lookup measures, and which of them was chosen."""

from __future__ import annotations

# Ways down the tree, and hundredths of what the nearest counts past which a way is given up. Those
# of CHOSEN gave the best answers of at most 110 comparisons on the images set aside, of the table
# of the others; see docs/decisions/0020-a-tree-for-few-comparisons.md.
WAYS: tuple[tuple[int, int | None], ...] = (
    (1, None), (2, None), (4, None), (4, 300), (8, 220), (8, None),
)  # fmt: skip
CHOSEN = (8, 220)

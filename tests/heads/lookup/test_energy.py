"""The estimator: section 8's worked check, with every constant as an argument."""

from __future__ import annotations

import pytest

from recollect.errors import InvalidParameter
from recollect.heads.lookup.energy import Constants, estimate_lookup, estimate_network
from recollect.heads.lookup.layout import Layout

LAYOUT = Layout(side=28, classes=10)
READS = Constants(add=0.0, absolute=0.0, multiply=0.0)


def test_the_flat_table_reads_80_microjoules():
    """5 x 300,000 x 170 bits at 0.3125 pJ = 79.7 uJ."""
    assert estimate_lookup(LAYOUT, 5 * 300_000, constants=READS).search == pytest.approx(79_687.5)


def test_the_tree_reads_11_nanojoules_and_computes_1_4():
    """200 rows x 170 bits; 200 x 114 x (0.03 + 0.03) pJ without weights."""
    reads = estimate_lookup(LAYOUT, 200, constants=READS)
    both = estimate_lookup(LAYOUT, 200, weighted=False)

    assert reads.search == pytest.approx(10.625)
    assert both.search - reads.search == pytest.approx(1.368)


def test_weighted_differences_cost_a_multiplication_more():
    """200 x 114 x 0.2 pJ = 4.56 nJ."""
    weighted, plain = (estimate_lookup(LAYOUT, 200, weighted=w).search for w in (True, False))

    assert weighted - plain == pytest.approx(4.56)


def test_the_small_network_is_the_worked_check():
    """784-256-128-10 at 8 bits: 54 nJ of arithmetic and 587 nJ of reads."""
    whole = estimate_network(234_752, 234_752)
    reads = estimate_network(234_752, 234_752, constants=READS)

    assert reads.total == pytest.approx(586.88)
    assert whole.total - reads.total == pytest.approx(53.993, abs=1e-3)


def test_values_glimpses_and_time_are_counted():
    """5 x 78 bits read, 5 x 28 x 28 pixels added, 100 rows and 10 levels in time."""
    some = estimate_lookup(
        LAYOUT, 100, depth=10, constants=Constants(row_time=2.0, level_time=3.0, parallel_rows=4)
    )

    assert some.value == pytest.approx(390 * 0.3125 / 1000)
    assert some.sense == pytest.approx(5 * 784 * 0.03 / 1000)
    assert some.latency == pytest.approx((25 * 2 + 30) / 1000)
    assert some.bytes_touched == (100 * 170 + 390) / 8


def test_the_report_prints_its_constants():
    """A figure without them means nothing."""
    lines = estimate_lookup(LAYOUT, 100, name="tree").lines()

    assert lines[0].startswith("tree: ")
    assert "read=0.3125" in lines[1]


def test_impossible_constants_are_refused():
    """Energy does not come from nowhere."""
    with pytest.raises(InvalidParameter):
        Constants(read=-1.0)
    with pytest.raises(InvalidParameter):
        Constants(parallel_rows=0)

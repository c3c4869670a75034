"""The lookup table against reference values; everything comes from the files.

Any folder of the same form will do. Distances in the files are not divided by the sum of the
weights, and location, state and glimpse are in whole codes.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from places import SHARED, golden

from recollect.heads.lookup.costs import whole_costs
from recollect.heads.lookup.glimpse import integral
from recollect.heads.lookup.layout import Layout
from recollect.heads.lookup.network import Network
from recollect.heads.lookup.replay import replay
from recollect.heads.lookup.runs import Runs, record
from recollect.heads.lookup.search import FlatSearch
from recollect.heads.lookup.table import build, make_table
from recollect.heads.lookup.tree import Tree, TreeSearch

FOLDER = Path(os.environ.get("RECOLLECT_GOLDEN") or SHARED / "golden", "mbi")


@pytest.fixture(scope="module", params=sorted(file.name for file in FOLDER.glob("*.npz")) or [""])
def reference(request):
    with np.load(golden("mbi", request.param)) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def layout(reference):
    return Layout(
        side=int(reference["T"]),
        glimpse=int(reference["g"]),
        scale=int(reference["scale"]),
        patches=int(reference["n_patches"]),
        glimpses=int(reference["n_glimpses"]),
        state=int(reference["h_dim"]),
        classes=int(reference["n_classes"]),
        phi_bits=int(reference["phi_bits"]),
        h_bits=int(reference["h_bits"]),
        low=0.0,
        high=1.0,
        begin=tuple(int(place) for place in reference["start_loc"]),
    )


@pytest.fixture(scope="module")
def network(reference, layout):
    names = ("fc1", "fc2", "fc3", "fc4", "i2h", "h2h", "out", "act", "loc1", "loc2")
    weights = {f"{name}.weight": reference[f"ram_{name}"] for name in names}
    return Network(layout, weights, grid=None)


@pytest.fixture(scope="module")
def table(reference, network, layout):
    return build(
        network.step,
        integral(reference["train_images"]),
        start=network.start,
        steps=layout.glimpses,
        sense=network.sense,
    )


@pytest.fixture(scope="module")
def costs(reference, layout):
    most = np.full(layout.key_width, (1 << layout.phi_bits) - 1)
    most[: layout.state] = (1 << layout.h_bits) - 1
    most[layout.state : layout.state + 2] = layout.side
    return whole_costs(reference["w"], most)


@pytest.mark.parametrize(
    ("images", "prefix"), [("train_images", "train"), ("test_images", "test_ram")]
)
def test_the_network_runs_step_by_step_like_the_reference(
    reference, network, layout, images, prefix
):
    """Glimpse, core, locator, classifier and both quantizers, on images of [0, 1]."""
    runs = record(
        network.step,
        integral(reference[images]),
        start=network.start,
        steps=layout.glimpses,
        sense=network.sense,
    )

    place = layout.state + 2
    assert np.array_equal(runs.keys[:, :, : layout.state], reference[f"{prefix}_h"])
    assert np.array_equal(runs.keys[:, :, layout.state : place], reference[f"{prefix}_loc"])
    assert np.array_equal(runs.keys[:, :, place:], reference[f"{prefix}_phi"])
    assert np.array_equal(runs.answers, reference[f"{prefix}_class"])


def test_the_recorded_table_is_the_reference_row_for_row(reference, table):
    """Order: how often a key was seen, then where first."""
    assert np.array_equal(table.keys, reference["table_keys"])
    assert np.array_equal(table.values, reference["table_values"])
    assert np.array_equal(table.counts, reference["table_counts"])


def test_a_key_with_several_values_keeps_the_most_frequent(reference):
    """Ties go to the value seen first."""
    keys, values = reference["dup_keys"], reference["dup_values"]
    runs = Runs(np.arange(len(keys)), keys[:, None], values[:, None], values[:, :1])

    made = make_table(runs)

    assert np.array_equal(made.keys, reference["dup_table_keys"])
    assert np.array_equal(made.states, reference["dup_table_values"])
    assert np.array_equal(made.counts, reference["dup_table_counts"])
    assert np.array_equal(made.variants, reference["dup_table_variants"])


def test_distances_are_the_reference_to_the_last_bit(reference, table, costs):
    """Dyadic weights make them exact, and ties real."""
    distances = costs.between(reference["dist_queries"], reference["table_keys"]) * costs.unit

    assert np.array_equal(distances, reference["dist_matrix"])


def test_flat_lookup_answers_like_the_reference(reference, network, layout, table, costs):
    """Rows, distances and classes at every step, on images that were not recorded."""
    trail = replay(
        table,
        FlatSearch(table, costs),
        integral(reference["test_images"]),
        start=network.start,
        steps=layout.glimpses,
        sense=network.sense,
    )

    assert np.array_equal(trail.queries, reference["lut_query"])
    assert np.array_equal(trail.rows, reference["lut_row"])
    assert np.array_equal(trail.distances * costs.unit, reference["lut_dist"])
    assert np.array_equal(trail.answers, reference["lut_class"])


def test_the_smaller_table_answers_like_the_reference(reference, network, layout, table, costs):
    """The most witnessed rows alone."""
    small = table.first_rows((int(reference["half_rows"]) + 0.5) / len(table))
    trail = replay(
        small,
        FlatSearch(small, costs),
        integral(reference["test_images"]),
        start=network.start,
        steps=layout.glimpses,
        sense=network.sense,
    )

    assert len(small) == reference["half_rows"]
    assert np.array_equal(trail.rows, reference["half_row"])
    assert np.array_equal(trail.distances * costs.unit, reference["half_dist"])
    assert np.array_equal(trail.answers, reference["half_class"])


def test_the_tree_descends_like_the_reference(reference, network, layout, table, costs):
    """Nearest center at each node, then the leaf; comparisons counted."""
    names = ("centres", "node_start", "child", "leaf_start", "leaf_rows")
    tree = Tree(*(reference[f"tree_{name}"] for name in names))
    trail = replay(
        table,
        TreeSearch(table.keys, table.parts, [tree], costs),
        integral(reference["test_images"]),
        start=network.start,
        steps=layout.glimpses,
        sense=network.sense,
    )

    assert np.array_equal(trail.rows, reference["tree_row"])
    assert np.array_equal(trail.distances * costs.unit, reference["tree_dist"])
    assert np.array_equal(trail.comparisons, reference["tree_evals"])
    assert np.array_equal(trail.answers, reference["tree_class"])


def test_recorded_images_are_replayed_at_distance_zero(reference, network, layout, table, costs):
    """A table holds every key it was recorded from."""
    trail = replay(
        table,
        FlatSearch(table, costs),
        integral(reference["train_images"]),
        start=network.start,
        steps=layout.glimpses,
        sense=network.sense,
    )

    assert not trail.distances.any()
    assert np.array_equal(trail.answers, reference["train_class"])

"""Tables as files, as C, as plain arrays; networks as files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recollect import LookupClassifier
from recollect.errors import (
    CorruptMemory,
    InvalidParameter,
    InvalidType,
    MemoryNotFound,
    MissingExtra,
    RecollectError,
    UnsupportedFormat,
    WriteFailed,
)
from recollect.heads.lookup import c_code, examples, packed, standalone
from recollect.heads.lookup.cluster import Growth
from recollect.heads.lookup.glimpse import integral
from recollect.heads.lookup.native import NativeLookup
from recollect.heads.lookup.network import Network
from recollect.heads.lookup.packed import pack, unpack
from recollect.heads.lookup.predictor import LookupPredictor

OLD = Path(__file__).resolve().parents[2] / "old_formats"
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Wno-overlength-strings", "-Werror")
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


def noisy(count):
    images, labels = examples.bars(count)
    random = np.random.default_rng(0)
    return np.minimum(images + random.integers(0, 60, images.shape), 255).astype(np.uint8), labels


def taught(**options):
    images, labels = noisy(100)
    made = LookupClassifier(examples.network(), **{"weights": (2.0, 1.0, 0.5), **options})
    return made.fit(images, labels)


MEDIANS = Growth(centers="medians")


@pytest.mark.parametrize(
    "options",
    [{}, {"tree": 2, "k": 3}, {"per_step": False}, {"tree": 2, "growth": MEDIANS}],
    ids=str,
)
def test_a_table_read_back_answers_alike(tmp_path, options):
    """Keys, values, counts, witnesses, tree, weights: all that an answer takes."""
    images, _ = noisy(150)
    made = taught(**options)
    size = made.save(tmp_path / "t.table")

    back = LookupPredictor.load(tmp_path / "t.table")

    assert back.predict(images).tolist() == made.predict(images).tolist()
    assert np.array_equal(back.table.keys, made.table_.keys)
    assert np.array_equal(back.table.row_of, made.table_.row_of)
    assert size == (tmp_path / "t.table").stat().st_size


def test_a_row_takes_the_bits_that_the_layout_says(tmp_path):
    """8 + 2 * 4 + 8 * 2 bits of key and 8 + 2 * 4 + 1 of value: 49 bits, 7 bytes."""
    made = taught()
    made.save(tmp_path / "t.table")

    _, arrays = packed.read_file(tmp_path / "t.table")

    assert arrays["rows"].shape == (len(made.table_), 7)


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 7), st.integers(0, 1023)),
        min_size=1, max_size=9,
    )
)  # fmt: skip
@settings(max_examples=50, deadline=None)
def test_what_is_packed_is_unpacked(rows):
    """Any codes that fit their bits."""
    bits = np.array([1, 3, 10])

    assert unpack(pack(np.array(rows), bits), bits).tolist() == [list(row) for row in rows]


def test_a_table_cut_short_is_refused_by_name(tmp_path):
    """At every length."""
    path = tmp_path / "t.table"
    taught().save(path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(CorruptMemory):
            LookupPredictor.load(path)


def test_a_flipped_bit_is_refused_by_name(tmp_path):
    """Wherever it lies; in the format number it may look like another format."""
    path = tmp_path / "t.table"
    taught().save(path)
    whole = bytearray(path.read_bytes())
    for place in range(0, len(whole), 41):
        whole[place] ^= 4
        path.write_bytes(whole)
        with pytest.raises((CorruptMemory, UnsupportedFormat)):
            LookupPredictor.load(path)
        whole[place] ^= 4


def test_a_table_of_another_version_is_refused_by_name(tmp_path, monkeypatch):
    """The message names both formats."""
    monkeypatch.setattr(packed, "FORMAT", 4)
    taught().save(tmp_path / "t.table")
    monkeypatch.undo()

    with pytest.raises(UnsupportedFormat, match="expected format 1 to 3, got 4"):
        LookupPredictor.load(tmp_path / "t.table")


def test_a_location_outside_of_the_image_is_refused(tmp_path):
    """A file with a right checksum may still lie."""
    about, arrays = _parts(tmp_path)
    about["layout"]["side"] = 4

    packed.write_file(tmp_path / "t.table", about, arrays)

    with pytest.raises(CorruptMemory):
        LookupPredictor.load(tmp_path / "t.table")


@pytest.mark.parametrize(
    ("name", "value"),
    [("classes", ["one"]), ("weights", [0, 0, 0]), ("k", 0), ("layout", {"side": -1}), ("beam", 2)],
)
def test_a_forged_table_is_refused(tmp_path, name, value):
    """Whatever it says about itself is judged before it is used."""
    about, arrays = _parts(tmp_path)

    packed.write_file(tmp_path / "t.table", about | {name: value}, arrays)

    with pytest.raises(CorruptMemory):
        LookupPredictor.load(tmp_path / "t.table")


def _parts(folder):
    taught().save(folder / "t.table")
    return packed.read_file(folder / "t.table")


@pytest.mark.parametrize("version", [1, 2])
def test_a_table_of_a_format_before_is_read(version):
    """Trees of medians, votes by rank: 40 bars, weights 2, 1, 0.5, two ways, k of 3."""
    back = LookupPredictor.load(OLD / f"lookup-{version}.table")

    assert (back.beam, back.k, back.vote, back.weights) == (2, 3, "last", (2.0, 1.0, 0.5))
    assert back.trees is not None
    assert [tree.pivots for tree in back.trees] == [None, None]
    assert back.predict(examples.bars(44)[0][40:]).tolist() == ["across", "down"] + ["across"] * 2


@pytest.mark.parametrize("place", [0, -1])
@pytest.mark.parametrize("value", [-1, 10_000, None])
def test_a_center_that_is_no_row_of_its_cluster_is_refused(tmp_path, place, value):
    """Below 0, above the rows, or the row of another cluster: found twice, or read from nowhere."""
    taught(tree=2).save(tmp_path / "t.table")
    about, arrays = packed.read_file(tmp_path / "t.table")
    pivots = arrays["tree 0 pivots"].copy()
    other = pivots[pivots != pivots[place]][0]
    pivots[place] = other if value is None else value

    packed.write_file(tmp_path / "t.table", about, arrays | {"tree 0 pivots": pivots})

    with pytest.raises(CorruptMemory, match="center of the table"):
        LookupPredictor.load(tmp_path / "t.table")


def test_no_table_and_no_place_are_named(tmp_path):
    """Nothing to read, nowhere to write."""
    with pytest.raises(MemoryNotFound):
        LookupPredictor.load(tmp_path / "none")
    with pytest.raises(WriteFailed):
        taught().save(tmp_path / "no" / "folder")


def test_float_keys_have_no_packed_form(tmp_path):
    """The remedy names the way that is left."""
    from dataclasses import replace

    network = examples.network()
    floats = replace(network, layout=replace(network.layout, phi_bits=0))
    images, labels = noisy(20)
    made = LookupClassifier(floats, weights=(1, 1, 1)).fit(images, labels)

    for write in (made.save, made.export_c, made.export_npz):
        with pytest.raises(InvalidParameter):
            write(tmp_path / "t")


@needs_compiler
@pytest.mark.parametrize("per_step", [True, False])
@pytest.mark.parametrize(
    ("tree", "k", "more"),
    [
        (None, 1, {}), (None, 4, {}), (1, 1, {}), (4, 3, {}), (4, 3, {"vote": "all"}),
        (None, 5, {"vote": "distance"}), (4, 9, {"vote": "distance", "slack": 150}),
        (4, 9, {"vote": "distance", "growth": Growth(centers="medians")}),
    ],
)  # fmt: skip
def test_the_compiled_header_answers_like_python(tree, k, more, per_step):
    """On 1,000 images, with every warning an error."""
    images, _ = noisy(1000)
    made = taught(tree=tree, k=k, per_step=per_step, **more)

    native = NativeLookup(made.predictor(), flags=STRICT)

    assert native.predict(images).tolist() == made.predict(images).tolist()


@needs_compiler
@pytest.mark.parametrize("bits", [(1, 1), (2, 2), (1, 2)])
def test_the_compiled_header_knows_one_and_two_bits(bits):
    """In glimpse and state alike, with a range of pixels of its own."""
    from dataclasses import replace

    network = examples.network()
    layout = replace(network.layout, phi_bits=bits[0], h_bits=bits[1], low=10.0, high=200.0)
    images, labels = noisy(1000)
    made = LookupClassifier(replace(network, layout=layout), weights=(1, 2, 3))
    made.fit(images[:100], labels[:100])

    native = NativeLookup(made.predictor(), flags=STRICT)

    assert native.predict(images).tolist() == made.predict(images).tolist()


@needs_compiler
def test_the_header_includes_nothing_but_stdint(tmp_path):
    """No libc on the device; names are quoted."""
    images, _ = noisy(100)
    made = LookupClassifier(examples.network(), weights=(1, 1, 1))
    made.fit(images, np.array(['a"\\?', "b"] * 50, object))

    sizes = made.export_c(tmp_path / "lookup.h")

    text = (tmp_path / "lookup.h").read_text()
    assert [line for line in text.splitlines() if "#include" in line] == ["#include <stdint.h>"]
    assert sizes["header"] == len(text)
    program = "int one(void);\nint one(void) { static uint8_t image[64]; "
    program += "return lookup_predict(image); }\n"
    (tmp_path / "one.c").write_text(f'#include "lookup.h"\n{program}')
    done = subprocess.run(
        ["cc", "-std=c99", "-ffreestanding", "-O2", "-c", "one.c", "-o", "one.o"], cwd=tmp_path,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0


@pytest.mark.parametrize("name", ["", "Lookup", "a-b", "1a"])
def test_names_that_c_refuses_are_refused(tmp_path, name):
    """Before a file is made."""
    with pytest.raises(InvalidParameter, match="name"):
        c_code.write_c(taught().predictor(), tmp_path / "x.h", name=name)

    assert not (tmp_path / "x.h").exists()


def test_pixels_that_are_no_bytes_are_not_exported(tmp_path):
    """The device has bytes; a table of floats would answer something else."""
    from dataclasses import replace

    network = examples.network()
    floats = replace(network, layout=replace(network.layout, high=0.5))
    images, labels = noisy(20)
    made = LookupClassifier(floats, weights=(1, 1, 1)).fit(images / 255, labels)

    with pytest.raises(InvalidParameter, match="bytes"):
        made.export_c(tmp_path / "x.h")


@pytest.mark.parametrize("per_step", [True, False])
@pytest.mark.parametrize("tree", [None, 2])
@pytest.mark.parametrize("vote", ["last", "all", "distance"])
def test_votes_without_a_trail_are_those_of_the_trail(vote, tree, per_step):
    """Answers are added up in C; what was found on the way is not written down for it."""
    images, _ = noisy(200)
    made = taught(tree=tree, k=9, vote=vote, per_step=per_step).predictor()

    votes = made.tally(images)

    assert votes.tolist() == made.votes(made.trail(images)).tolist()
    assert made.tally(images[::2]).tolist() == votes[::2].tolist()
    assert made.tally(images[:1]).tolist() == votes[:1].tolist()


@needs_compiler
def test_a_compiled_table_reads_bytes_only():
    """Floats would be read as if they were bytes."""
    with pytest.raises(InvalidType):
        NativeLookup(taught().predictor()).predict(noisy(1)[0] / 255)


def test_without_a_compiler_the_error_says_so():
    """By name."""
    with pytest.raises(MissingExtra, match="compiler"):
        NativeLookup(taught().predictor(), compiler="no-such-compiler")


@pytest.mark.parametrize(
    "options",
    [{}, {"k": 4}, {"per_step": False}, {"vote": "all", "k": 3}, {"vote": "distance", "k": 5}],
    ids=str,
)
def test_plain_arrays_answer_like_the_classifier(tmp_path, options):
    """To the last tie."""
    images, _ = noisy(200)
    made = taught(**options)
    made.export_npz(tmp_path / "t.npz")

    answers = standalone.predict(standalone.load(tmp_path / "t.npz"), images)

    assert answers == made.predict(images).tolist()


def test_the_predictor_of_plain_arrays_needs_numpy_alone(tmp_path):
    """Copied elsewhere, without this library in reach."""
    images, _ = noisy(20)
    made = taught()
    made.export_npz(tmp_path / "t.npz")
    np.save(tmp_path / "images.npy", images)
    shutil.copy(standalone.__file__, tmp_path / "alone.py")
    check = "import sys; sys.argv[1:] = ['t.npz', 'images.npy']; import alone; alone.main(); "
    check += "assert not any(name.startswith(('recollect', 'sklearn')) for name in sys.modules)"

    done = subprocess.run(
        [sys.executable, "-c", check], cwd=tmp_path, check=True, capture_output=True, text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip

    assert done.stdout.split() == made.predict(images).tolist()


def test_a_network_read_back_is_the_same(tmp_path):
    """Bit for bit: the fingerprint covers sizes and weights."""
    network = examples.network()
    network.save(tmp_path / "n.safetensors")

    back = Network.load(tmp_path / "n.safetensors")

    assert back.fingerprint == network.fingerprint
    assert (back.layout, back.names) == (network.layout, network.names)


@pytest.mark.parametrize("place", [0, 8, 40, 200, 1000, -1])
def test_a_damaged_network_is_refused_by_name(tmp_path, place):
    """Cut short or altered anywhere."""
    path = tmp_path / "n.safetensors"
    examples.network().save(path)
    whole = bytearray(path.read_bytes())
    whole[place] ^= 8
    path.write_bytes(whole)

    with pytest.raises(RecollectError):
        Network.load(path)

    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptMemory):
        Network.load(path)


def test_a_weight_altered_to_a_huge_one_is_refused_without_a_warning(tmp_path):
    """One bit of an exponent makes 1e307 of 0.1, which is no number any more on the grid."""
    path = tmp_path / "n.safetensors"
    examples.network().save(path)
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 64
    path.write_bytes(whole)

    with pytest.raises(CorruptMemory, match="not those that were written"):
        Network.load(path)


def test_a_network_of_format_1_is_read():
    """Its fingerprint covered neither the grid nor the names; the weights are the same."""
    back = Network.load(OLD / "network-1.safetensors")

    assert (back.names, back.grid) == (("across", "down"), 16)
    sums = integral(examples.bars(4)[0])
    state = np.tile(back.start, (4, 1))
    seen = back.sense(sums, state, 0)
    assert np.array_equal(back.step(state, seen)[0], examples.network().step(state, seen)[0])


def test_a_network_of_format_1_that_was_altered_is_refused(tmp_path):
    """The old fingerprint is still compared."""
    whole = bytearray((OLD / "network-1.safetensors").read_bytes())
    whole[-2] ^= 1
    (tmp_path / "n.safetensors").write_bytes(whole)

    with pytest.raises(CorruptMemory, match="not those that were written"):
        Network.load(tmp_path / "n.safetensors")


@pytest.mark.parametrize(
    ("version", "error"), [("3", UnsupportedFormat), ("0", CorruptMemory), ("x", CorruptMemory)]
)
def test_a_network_of_another_version_is_refused_by_name(tmp_path, version, error):
    """A newer one as such; a number that never was as damage."""
    from safetensors import safe_open
    from safetensors.numpy import save_file

    examples.network().save(tmp_path / "n.safetensors")
    with safe_open(tmp_path / "n.safetensors", framework="numpy") as file:
        about = file.metadata() | {"format": version}
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(weights, tmp_path / "n.safetensors", about)

    with pytest.raises(error):
        Network.load(tmp_path / "n.safetensors")


def test_no_network_there_is_named(tmp_path):
    """Not a traceback of another library."""
    with pytest.raises(MemoryNotFound):
        Network.load(Path(tmp_path) / "none")

"""Named arrays as bytes."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from recollect.errors import CorruptMemory, InputError
from recollect.memory.arrays import pack_arrays, unpack_arrays

SETTINGS = settings(max_examples=200, deadline=None, derandomize=True, database=None)
PACKED = pack_arrays({"mask": np.array([True, False]), "steps": np.arange(6.0).reshape(2, 3)})


def packed(header, content=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<I", len(text)) + text + content


@SETTINGS
@given(
    st.dictionaries(
        st.text(max_size=5),
        arrays.arrays(
            st.one_of(
                arrays.boolean_dtypes(), arrays.integer_dtypes(), arrays.unsigned_integer_dtypes(),
                arrays.floating_dtypes(),
            ),
            arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
        ),
        max_size=3,
    )
)  # fmt: skip
def test_any_arrays_of_numbers_come_back_with_their_shapes_and_bits(given_arrays):
    """NaN, endings and empty ones included."""
    back = unpack_arrays(pack_arrays(given_arrays))

    assert list(back) == list(given_arrays)
    for name, array in given_arrays.items():
        little = array.astype(array.dtype.newbyteorder("<"))
        assert back[name].dtype == little.dtype
        assert back[name].shape == array.shape
        assert back[name].tobytes() == little.tobytes()


@SETTINGS
@given(
    st.lists(st.tuples(st.integers(0, len(PACKED) - 1), st.integers(0, 255)), max_size=4),
    st.integers(0, len(PACKED)),
    st.binary(max_size=4),
)
def test_changed_bytes_are_read_or_refused_and_raise_nothing_else(changes, length, tail):
    """Anyone can send us a memory."""
    content = bytearray(PACKED)
    for place, value in changes:
        content[place] = value

    try:
        back = unpack_arrays(bytes(content[:length]) + tail)
    except CorruptMemory:
        return
    assert all(array.dtype.kind in "biuf" for array in back.values())


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\0", b"\xff\xff\xff\xff", packed(b"["), packed(b"\xff"), packed(b"[" * 5000),
        packed(b"1" * 5000), packed(b"1e999"), packed(5), packed({"abc": 1}), packed("abc"),
        packed([1]), packed([["a"]]), packed([["a", "<f4", [1]]]), packed([["a", "<f4", [-1]]]),
        packed([["a", "<f4", [True]]], b"1234"), packed([["a", "<f4", 1]], b"1234"),
        packed([["a", "<f4", ["1"]]]), packed([["a", "<f4", [2**70]]]),
        packed([["a", "<f4", [0, 2**70]]]), packed([["a", "<f4", [0] * 99]]),
        packed([["a", "|O", [1]]], b"12345678"), packed([["a", "O", [0]]]),
        packed([["a", "(2,", [0]]]), packed([["a", "f4,i4", [1]]], b"12345678"),
        packed([["a", "<M8[s]", [1]]], b"12345678"), packed([["a", "|V4", [1]]], b"1234"),
        packed([["a", "|S4", [1]]], b"1234"), packed([["a", None, [1]]], b"1234"),
        packed([[["a"], "<f4", [1]]], b"1234"), packed([["a", "<f4", [1]]], b"12345"),
        packed([["a", ">f4", [1]]], b"1234"), packed([["a", "a", [1]]], b"1"),
    ],
)  # fmt: skip
def test_a_hostile_header_is_refused_before_anything_is_made_of_it(content):
    """No object, no huge allocation, no error but ours."""
    with pytest.raises(CorruptMemory):
        unpack_arrays(content)


@pytest.mark.parametrize(
    "value",
    [
        {"a": np.array([object()])}, {"a": ["x"]}, {"a": [[1, 2], [3]]}, {"a": np.array([1j])},
        {1: np.array([1])}, {"a": np.array(["2020-01-01"], "M8[D]")}, {"a": [10**400]},
        {"a" * (1 << 20): np.array([1])},
    ],
)  # fmt: skip
def test_what_is_not_numbers_under_a_name_is_refused(value):
    """Before anything is written."""
    with pytest.raises(InputError) as caught:
        pack_arrays(value)

    assert caught.value.expected
    assert caught.value.remedy

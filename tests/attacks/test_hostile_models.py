"""Model files and recipes made to crash, to run code, or to read what they should not."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from encoders.tiny_models import dinov2, onnx_file, text_folder
from encoders.tiny_onnx import IMAGE, constant, mean_color, model, node, value
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recollect.encoders import HuggingFaceEncoder, OnnxEncoder, TextEncoder, from_spec
from recollect.errors import EncoderFault, EncoderMismatch, InvalidParameter, RecollectError

PICTURE = np.zeros((4, 4, 3), np.uint8)


def result_or_error(work):
    try:
        return work()
    except RecollectError as error:
        return error


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 100, b"ONNX", b"\x3a\xff\xff\xff\xff\x0f", b"PK\x03\x04"]
)
def test_a_file_that_is_no_model_is_refused(tmp_path, content):
    """Renamed, empty, or half downloaded."""
    with pytest.raises(EncoderFault, match="cannot be loaded"):
        OnnxEncoder(onnx_file(tmp_path, content))


@pytest.mark.parametrize("place", ["/dev/zero", "/etc", "\0"])
def test_a_path_to_something_else_is_refused(place):
    """Devices, folders, impossible names."""
    with pytest.raises((EncoderFault, InvalidParameter)):
        OnnxEncoder(place)


def test_a_pipe_is_refused_at_once(tmp_path):
    """Opening one waits for a writer that never comes."""
    os.mkfifo(tmp_path / "model.onnx")

    with pytest.raises(EncoderFault, match="something other than a file"):
        OnnxEncoder(tmp_path)


def test_a_model_that_asks_for_terabytes_is_at_fault(tmp_path):
    """One node can name any shape."""
    content = model(
        [
            node("ConstantOfShape", ["shape"], ["huge"]),
            node("ReduceMean", ["image"], ["mean"]),
            node("Add", ["huge", "mean"], ["pooled"]),
        ],
        [IMAGE],
        [value("pooled", ("N", 3))],
        [constant("shape", np.array([2**40, 2**10]))],
    )

    with pytest.raises(EncoderFault):
        OnnxEncoder(onnx_file(tmp_path, content), size=4).encode([PICTURE])


def test_an_unknown_operation_is_refused(tmp_path):
    """Such an operation would be in a library of the sender's."""
    content = model([node("RunShell", ["image"], ["pooled"])], [IMAGE], [value("pooled", ("N", 3))])

    with pytest.raises(EncoderFault, match="cannot be loaded"):
        OnnxEncoder(onnx_file(tmp_path, content))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    changes=st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), min_size=1, max_size=4)
)
def test_random_damage_ends_as_keys_or_as_one_error(tmp_path, changes):
    """Whatever the runtime says."""
    content = bytearray(mean_color())
    for place, byte in changes:
        content[place % len(content)] = byte

    path = onnx_file(tmp_path, bytes(content))
    outcome = result_or_error(lambda: OnnxEncoder(path, size=4).encode([PICTURE]))

    assert isinstance(outcome, RecollectError) or np.isfinite(outcome).all()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    field=st.sampled_from(["path", "sha256", "output", "pooling", "maps", "preprocessing", "type"]),
    thing=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    ),
)
def test_a_recipe_with_anything_in_a_field_is_one_error_or_an_encoder(tmp_path, field, thing):
    """It is JSON of somebody's."""
    spec = OnnxEncoder(onnx_file(tmp_path), size=4).spec | {field: thing}

    outcome = result_or_error(lambda: from_spec(spec))

    assert isinstance(outcome, (EncoderFault, EncoderMismatch)) or outcome.dim == 3


@pytest.mark.parametrize("content", ["", "null", "[]", "{", '{"model_type": []}', "[" * 100_000])
def test_a_broken_config_is_refused(tmp_path, content):
    """One error of ours, whatever transformers says."""
    folder = dinov2(tmp_path)
    (folder / "config.json").write_text(content)

    with pytest.raises(EncoderFault):
        HuggingFaceEncoder(folder)


def test_sizes_in_a_config_that_do_not_fit_the_weights_are_refused(tmp_path):
    """The model would be built larger than its file, and filled at random."""
    folder = dinov2(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))

    with pytest.raises(EncoderFault, match="weights missing"):
        HuggingFaceEncoder(folder)


def test_tokens_that_the_model_does_not_know_are_at_fault(tmp_path):
    """A tokenizer of another model: row 4 of a table with 3 rows."""
    with pytest.raises(EncoderFault, match="failed"):
        TextEncoder(text_folder(tmp_path, np.eye(3, dtype=np.float32)))

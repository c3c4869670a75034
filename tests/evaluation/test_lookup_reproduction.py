"""The reproduction of lookup on a few small images: every part runs, and says what it must."""

from __future__ import annotations

import json

import numpy as np
import pytest

from recollect.errors import InputError, InvalidParameter
from recollect.evaluation.reproduce import lookup
from recollect.evaluation.reproduce.lookup import read_digits, run


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "mnist").mkdir()
    random = np.random.default_rng(0)
    labels = np.tile([0, 1], 80).astype(np.uint8)
    images = random.integers(0, 60, (160, 28, 28))
    images[labels == 0, 12:16] = 255
    images[labels == 1, :, 12:16] = 255
    arrays = {"x_train": images[:120], "x_test": images[120:]}
    arrays = {name: block.astype(np.uint8) for name, block in arrays.items()}
    names = {"y_train": labels[:120], "y_test": labels[120:]}
    np.savez(folder / "mnist" / "mnist.npz", **arrays, **names)
    return folder


@pytest.mark.slow
def test_every_part_is_measured_written_and_kept(data, tmp_path, monkeypatch):
    """Pages and pictures; a second run reads what the first one kept."""
    monkeypatch.setattr(lookup, "CHOOSING", 12)
    done = []
    mnist = [part for part in lookup.PARTS if part != "larger"]
    options = {
        "data": data, "work": tmp_path / "work", "out": tmp_path, "epochs": 1, "only": mnist,
    }  # fmt: skip

    report = run(**options, progress=lambda count, total: done.append((count, total)))

    assert done[-1] == (10, 10)
    assert json.loads((tmp_path / "lookup.json").read_text()) == report
    page = (tmp_path / "lookup.md").read_text()
    assert all(word in page for word in ("89.19", "1-NN on raw pixels", "nanojoules"))
    for name in ("by-share", "by-comparisons", "glimpses", "weights"):
        assert (tmp_path / f"lookup-{name}.png").stat().st_size < 150_000
    assert run(**options) == report


def test_a_part_that_is_not_known_is_refused(data, tmp_path):
    """By name, before anything is trained."""
    with pytest.raises(InvalidParameter, match="no such part"):
        run(data=data, work=tmp_path, only=["magic"])


def test_what_was_not_measured_is_said_so(data, tmp_path):
    """A page of one part names the others as missing."""
    out = tmp_path / "made" / "for it"
    run(data=data, work=tmp_path / "work", out=out, epochs=1, only=["networks"])

    page = (out / "lookup.md").read_text()
    assert page.count("Not measured in this run.") == 10
    assert "nothing rounded" in page


def test_the_images_that_choose_are_not_trained_on(data):
    """The last tenth of the training file."""
    digits = read_digits(data, None, 10)

    assert (digits.trained, digits.choosing) == (108, slice(108, 120))
    assert len(digits.queries) == 10


def test_without_the_data_the_error_says_where_it_looked(tmp_path):
    """And which variable leads there."""
    with pytest.raises(InputError, match="MNIST"):
        read_digits(tmp_path, None, None)


def test_more_rows_than_there_are_is_refused(data):
    """Before anything is trained."""
    with pytest.raises(InvalidParameter, match="out of range"):
        read_digits(data, 121, None)

"""Data sets are read from a folder, whole or the first so many, or their absence is explained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from places import data

from recollect.encoders import HashingTextEncoder
from recollect.errors import InputError
from recollect.evaluation.datasets import Labelled, cache_file, encoded, read_images, read_texts


def test_images_come_with_the_names_of_their_classes() -> None:
    """A reproduction reports classes by name; images stay the bytes of their files."""
    data("cifar10", "test.parquet")
    pictures = read_images(data(), "cifar10", "test").first(3)
    assert len(pictures) == 3
    assert all(isinstance(picture, bytes) for picture in pictures.inputs)
    assert all(isinstance(label, str) for label in pictures.labels)


def test_texts_come_with_the_label_of_the_column_that_was_asked_for() -> None:
    """TREC has coarse and fine labels in one file."""
    data("trec", "test.csv")
    coarse = read_texts(data(), "trec", "test", label="coarse_name")
    fine = read_texts(data(), "trec", "test", label="fine_name")
    assert coarse.inputs == fine.inputs
    assert len(set(coarse.labels)) < len(set(fine.labels))


def test_asking_for_more_than_there_is_says_how_many_there_are() -> None:
    """Silently measuring on fewer rows would be a wrong report."""
    with pytest.raises(InputError, match="at least 3"):
        Labelled(["a", "b"], np.array(["x", "y"], object)).first(3)


def test_an_absent_data_set_names_the_variable_that_leads_to_it(tmp_path: Path) -> None:
    """Nothing is downloaded, so the user has to say where the files lie."""
    with pytest.raises(InputError, match="RECOLLECT_DATA"):
        read_images(tmp_path, "cifar10", "test")
    with pytest.raises(InputError, match="RECOLLECT_DATA"):
        read_texts(tmp_path, "trec", "test")


def test_encoding_twice_reads_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time gives the same keys, from the file that RECOLLECT_CACHE leads to."""
    monkeypatch.setenv("RECOLLECT_CACHE", str(tmp_path / "cache"))
    encoder = HashingTextEncoder(dim=256)
    first = encoded(encoder, ["an owl", "a fox"])
    assert cache_file().parent == tmp_path / "cache"
    assert cache_file().is_file()
    np.testing.assert_array_equal(encoded(encoder, ["an owl", "a fox"]), first)

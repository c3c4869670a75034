"""The reproduction of lookup on a few small images: every part runs, and says what it must."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from recollect.errors import InputError, InvalidParameter
from recollect.evaluation.reproduce import lookup, lookup_parts
from recollect.evaluation.reproduce.lookup import read_digits, run
from recollect.evaluation.reproduce.lookup_page import page
from recollect.heads.lookup.recipe import Recipe
from recollect.heads.lookup.tuning import WeightReport


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

    assert done[-1] == (12, 12)
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
    assert page.count("Not measured in this run.") == 12
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


def lab_of(data, work, **changed):
    """Return a lab over the small images."""
    given = {"rows": None, "queries": None, "epochs": 1, "seed": 0, **changed}
    digits = read_digits(data, given["rows"], given["queries"])
    return lookup.Lab(digits, work, given["epochs"], given["seed"], data)


@pytest.mark.parametrize(
    "changed", [{"rows": 110}, {"queries": 20}, {"epochs": 2}, {"seed": 1}], ids=str
)
def test_a_part_that_was_kept_under_another_protocol_is_measured_again(data, tmp_path, changed):
    """What 200 images had reached was reported of 1,000."""
    asked = []

    def measure(lab):
        asked.append(lab)
        return [{"count": len(asked)}]

    lab_of(data, tmp_path).kept("part", measure)
    same = lab_of(data, tmp_path).kept("part", measure)
    other = lab_of(data, tmp_path, **changed).kept("part", measure)

    assert (same["lines"], other["lines"]) == ([{"count": 1}], [{"count": 2}])


def test_a_part_of_an_earlier_edition_is_measured_again(data, tmp_path, monkeypatch):
    """The code that measured it is another now; so is that of parts without any note."""
    (tmp_path / "part.json").write_text('{"lines": [], "seconds": 1}')
    first = lab_of(data, tmp_path).kept("part", lambda _: [{"count": 1}])
    monkeypatch.setattr(lookup, "EDITION", lookup.EDITION + 1)

    second = lab_of(data, tmp_path).kept("part", lambda _: [{"count": 2}])

    assert (first["lines"], second["lines"]) == ([{"count": 1}], [{"count": 2}])


def test_a_network_of_another_recipe_or_seed_is_trained_anew(data, tmp_path):
    """It was taken by its name alone."""
    recipe = Recipe(epochs=1, state=8, batch=32)
    first = lab_of(data, tmp_path).subject("small", recipe).network
    wide = replace(recipe, state=16)

    assert lab_of(data, tmp_path).subject("small", recipe).network.fingerprint == first.fingerprint
    assert lab_of(data, tmp_path, seed=1).subject("small", recipe).network.fingerprint != (
        first.fingerprint
    )
    assert lab_of(data, tmp_path).subject("small", wide).network.layout.state == 16


def test_weights_chosen_for_another_network_are_chosen_anew(data, tmp_path, monkeypatch):
    """Or under another seed."""
    monkeypatch.setattr(lookup, "CHOOSING", 12)
    searched = []

    def search(score, **options):
        searched.append(options["seed"])
        return WeightReport((1.0, 1.0, 1.0), score((1.0, 1.0, 1.0)), 1.0, ())

    monkeypatch.setattr(lookup, "search_weights", search)
    recipe = Recipe(epochs=1, state=8, batch=32)
    for seed in (0, 0, 1):
        lab = lab_of(data, tmp_path, seed=seed)
        lab.tuned(lab.subject("small", recipe), per_step=True, labels=True, k=1)

    assert searched == [0, 1]


def test_pixels_of_two_bits_are_rounded_as_glimpses_are(data, tmp_path):
    """Cutting bits off takes 212 for 3 and 127 for 1, where rounding says 2 and 1."""
    [_, two, _] = lookup_parts.beside(lab_of(data, tmp_path))
    digits = read_digits(data, None, None)
    rows, asked = (
        np.floor(x.reshape(len(x), -1) / 255 * 3 + 0.5) for x in (digits.images, digits.queries)
    )
    nearest = ((asked[:, None] - rows) ** 2).sum(axis=2).argmin(axis=1)

    assert two["accuracy"] == round(float((digits.labels[nearest] == digits.truth).mean()), 5)


def test_the_page_says_what_saw_test_images_and_reads_older_reports(report_of_two_rungs):
    """The grid of cells did; a last rung with other questions says so."""
    text = page(report_of_two_rungs)

    assert "first 1,000 test images in sight" in text
    assert "asks 10,000**" in text
    same = [{**line, "questions": 10} for line in report_of_two_rungs["ladder"]["lines"]]
    said = page({**report_of_two_rungs, "ladder": {"lines": same, "seconds": 1}})
    assert "all lines ask the same questions" in said


@pytest.fixture
def report_of_two_rungs(data, tmp_path):
    protocol = run(data=data, work=tmp_path, only=[])["protocol"]
    rung = {
        "name": "a", "rows": 1, "bytes": 1, "weights": [1.0], "k": 1, "questions": 2000,
        "accuracy": 0.5, "standard_error": 0.1,
    }  # fmt: skip
    lines = [rung, {**rung, "questions": 10_000}]
    return {"protocol": protocol, "ladder": {"lines": lines, "seconds": 1}}


def test_sizes_are_asked_with_images_that_are_no_test_images(data, tmp_path):
    """Every setting of the grid, by images that no network was trained on."""
    lab = lab_of(data, tmp_path)

    lines = lookup_parts.sizes(lab)

    assert len(lines) == 7 * 2 * 3
    assert {line["questions"] for line in lines} == {12}
    assert all(line["rows"] == 108 for line in lines)
    assert "(taken)" in page({"protocol": run(data=data, work=tmp_path, only=[])["protocol"],
                              "sizes": {"lines": lines, "seconds": 1}})  # fmt: skip

"""Every bad input of a dense memory on disk: one error with sample and level named, nothing stored.

``python tests/attacks/test_dense_inputs.py`` shows what each of them says.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from recollect import DenseMemoryRegressor, DenseMemorySegmenter, Memory
from recollect.encoders import LocalStatistics
from recollect.errors import RecollectError
from recollect.memory.store import CATALOG

SIDES = {1: ((4,), (8,)), 2: ((2, 3), (4, 5)), 3: ((1, 2, 2), (2, 4, 3))}
WIDTHS = (3, 2)
NAN = float("nan")


def pyramid(axes=2, seed=0, widths=WIDTHS):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(*side, w)) for side, w in zip(SIDES[axes], widths, strict=True)]


def mask(axes=2, fill=None):
    sides = SIDES[axes][-1]
    return np.arange(np.prod(sides)).reshape(sides) % 3 if fill is None else np.full(sides, fill)


def spoiled(axes, level, value):
    """A pyramid with one number that no feature may be."""
    found = pyramid(axes)
    found[level][(0,) * (axes + 1)] = value
    return found


def among_good(bad, labels=None):
    """A batch whose second sample is bad: the others must not be stored either."""

    def teach(head, axes):
        some = [pyramid(axes, 5), bad(axes), pyramid(axes, 6)]
        truth = [mask(axes), mask(axes) if labels is None else labels(axes), mask(axes)]
        head.partial_fit(some, truth)

    return teach


def ask(bad):
    return lambda head, axes: head.predict([pyramid(axes, 5), bad(axes)])


def outside(axes):
    found = mask(axes)
    found[(0,) * axes] = -7
    return found


SAMPLES = {
    "another width on a level": (
        among_good(lambda axes: pyramid(axes, widths=(3, 4))), "level 1 of sample 1"),
    "asked with another width on a level": (
        ask(lambda axes: pyramid(axes, widths=(5, 2))), "level 0 of sample 1"),
    "a level too few": (among_good(lambda axes: pyramid(axes)[:1]), "sample 1"),
    "a level too many": (
        among_good(lambda axes: [*pyramid(axes), pyramid(axes)[-1]]), "sample 1"),
    "grids of another dimension": (
        among_good(lambda axes: pyramid(axes % 3 + 1)), "sample 1"),
    "the finest level first": (among_good(lambda axes: pyramid(axes)[::-1]), "of sample 1"),
    "NaN on the coarse level": (
        among_good(lambda axes: spoiled(axes, 0, NAN)), "level 0 of sample 1"),
    "infinity on the fine level": (
        among_good(lambda axes: spoiled(axes, 1, np.inf)), "level 1 of sample 1"),
    "asked with NaN": (ask(lambda axes: spoiled(axes, 1, NAN)), "level 1 of sample 1"),
    "a number beyond float32": (
        among_good(lambda axes: spoiled(axes, 0, 1e300)), "level 0 of sample 1"),
    "an empty level": (
        among_good(lambda axes: [np.empty((*SIDES[axes][0], 0)), pyramid(axes)[1]]),
        "level 0 of sample 1"),
    "a mask of another size": (
        among_good(pyramid, lambda axes: mask(axes)[:-1]), "mask 1"),
    "a mask of another dimension": (
        among_good(pyramid, lambda axes: mask(axes)[..., None]), "mask 1"),
    "a label below zero": (among_good(pyramid, outside), "mask 1"),
    "a label that was not announced": (among_good(pyramid, lambda axes: mask(axes, 9)), "mask 1"),
    "a mask that is all ignored": (among_good(pyramid, lambda axes: mask(axes, 255)), "mask 1"),
    "a mask of fractions": (among_good(pyramid, lambda axes: mask(axes) + 0.5), "mask 1"),
    "an id that was given before": (
        lambda head, axes: head.partial_fit([pyramid(axes)], [mask(axes)], ids=[1]), "1"),
    "one id twice": (
        lambda head, axes: head.partial_fit([pyramid(axes)] * 2, [mask(axes)] * 2, ids=[7, 7]),
        "7"),
    "a mask missing": (
        lambda head, axes: head.partial_fit([pyramid(axes)] * 2, [mask(axes)]), "masks"),
    "an id that is not there": (lambda head, axes: head.forget([99]), "99"),
    "another mask of another size": (
        lambda head, axes: head.relabel([0, 1], [mask(axes), mask(axes)[:-1]]), "mask 1"),
}  # fmt: skip
OPTIONS = {
    "more sparse levels than there are": {"sparse_levels": 2},
    "a temperature of zero": {"temperature": 0.0},
    "a share of one from the neighbors": {"alpha": 1.0},
    "a share below zero": {"alpha": -0.5},
    "level weights for more levels than there are": {"level_weights": (1.0, 1.0, 1.0)},
    "a k of zero": {"k": 0},
}
SIGNAL, IMAGE, VOLUME = (lambda n: np.sin(np.arange(float(n)))), np.ones((9, 9)), np.ones((8, 8, 8))


def broken(source):
    found = source.copy()
    found[(2,) * found.ndim] = NAN
    return found


ENCODED = {
    "a signal smaller than one cell": (1, [SIGNAL(64), SIGNAL(3)], "sample 1"),
    "an image smaller than one cell": (2, [IMAGE, IMAGE[:2]], "sample 1"),
    "a volume smaller than one cell": (3, [VOLUME, VOLUME[:, :1]], "sample 1"),
    "a signal with NaN": (1, [SIGNAL(64), broken(SIGNAL(64))], "sample 1"),
    "an image with NaN": (2, [IMAGE, broken(IMAGE)], "sample 1"),
    "a volume with NaN": (3, [VOLUME, broken(VOLUME)], "sample 1"),
    "a volume with infinity": (3, [VOLUME, VOLUME * np.inf], "sample 1"),
    "an image where a volume should be": (3, [VOLUME, IMAGE], "sample 1"),
}


def contents(folder):
    """Version, ids, and every file of a memory on disk but its catalog, which counts openings."""
    files = {
        path.name: path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(CATALOG)
    }
    with Memory.open(folder, read_only=True) as memory:
        rows = memory.rows(memory.ids)
        values = [{name: each.tolist() for name, each in row.items()} for row in rows.values]
        return memory.version, memory.ids.tolist(), values, files


def refused(folder, head, act):
    """What one bad call says; that it left everything as it was is checked."""
    before = contents(folder)
    with np.errstate(divide="ignore", invalid="ignore"), pytest.raises(RecollectError) as caught:
        act()
    head.memory_.close()
    assert contents(folder) == before
    return f"{type(caught.value).__name__}: {caught.value}"


def taught(folder, axes, **options):
    head = DenseMemorySegmenter(k=3, memory=folder, labels=(0, 1, 2), **options)
    return head.partial_fit([pyramid(axes, 1), pyramid(axes, 2)], [mask(axes), mask(axes)])


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("name", SAMPLES)
def test_a_bad_sample_is_one_error_and_leaves_the_folder_as_it_was(tmp_path, axes, name):
    """Nothing of a batch is stored when one of its samples is bad, in any dimension."""
    act, words = SAMPLES[name]
    head = taught(tmp_path / "memory", axes)

    said = refused(tmp_path / "memory", head, lambda: act(head, axes))

    assert words in said


@pytest.mark.parametrize("name", OPTIONS)
def test_a_bad_option_is_one_error_and_leaves_the_folder_as_it_was(tmp_path, name):
    """Options are judged before rows are."""
    head = taught(tmp_path / "memory", 2).set_params(**OPTIONS[name])

    said = refused(tmp_path / "memory", head, lambda: head.partial_fit([pyramid(2)], [mask(2)]))

    assert said.startswith("InvalidParameter: " + next(iter(OPTIONS[name])))


@pytest.mark.parametrize("name", ENCODED)
def test_a_bad_input_of_an_encoder_is_one_error_by_name(name):
    """Before anything was made of the good one beside it."""
    axes, inputs, words = ENCODED[name]

    with np.errstate(divide="ignore"), pytest.raises(RecollectError, match=words):
        encoded(axes, inputs)


def encoded(axes, inputs):
    head = DenseMemorySegmenter(k=1, encoder=LocalStatistics(axes, levels=2))
    with np.errstate(invalid="ignore"):
        head.fit(inputs, [np.ones(np.shape(each), int) for each in inputs])


@pytest.mark.parametrize("value", [NAN, np.inf])
def test_a_bad_target_of_a_regressor_is_one_error_by_name(value):
    """A target without a number, or with infinity."""
    with pytest.raises(RecollectError, match="mask 1"):
        DenseMemoryRegressor(k=1).fit([pyramid(), pyramid()], [mask() * 1.0, mask(fill=value)])


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_what_only_looks_bad_is_answered(axes):
    """One sample, more matches than cells, one level, another grid, a label that is new."""
    other = [np.ones((2,) * axes + (3,)), np.ones((3,) * axes + (2,))]
    head = DenseMemorySegmenter(k=500).fit([pyramid(axes)], [mask(axes)])

    assert head.predict([pyramid(axes)])[0].shape == SIDES[axes][-1]
    head.partial_fit([other], [np.full((3,) * axes, 8)])
    assert head.classes_.tolist() == [0, 1, 2, 8]
    assert head.predict([other])[0].shape == (3,) * axes
    single = DenseMemorySegmenter(k=1, message_passing=None).fit([pyramid(axes)[1:]], [mask(axes)])
    assert single.predict([pyramid(axes)[1:]])[0].tolist() == mask(axes).tolist()


def main():
    for axes in (1, 2, 3):
        for name, (act, _) in SAMPLES.items():
            with tempfile.TemporaryDirectory() as place:
                head = taught(Path(place, "memory"), axes)
                said = refused(Path(place, "memory"), head, lambda h=head, a=act, n=axes: a(h, n))
            sys.stdout.write(f"{axes}-D, {name}:\n    {said}\n")
    for name, options in OPTIONS.items():
        with tempfile.TemporaryDirectory() as place:
            head = taught(Path(place, "memory"), 2).set_params(**options)
            said = refused(Path(place, "memory"), head,
                           lambda h=head: h.partial_fit([pyramid(2)], [mask(2)]))  # fmt: skip
        sys.stdout.write(f"{name}:\n    {said}\n")
    for name, (axes, inputs, _) in ENCODED.items():
        with np.errstate(divide="ignore"), pytest.raises(RecollectError) as caught:
            encoded(axes, inputs)
        sys.stdout.write(f"{name}:\n    {type(caught.value).__name__}: {caught.value}\n")
    head = DenseMemorySegmenter(k=1).fit([pyramid()], [mask()]).forget([0])
    with pytest.raises(RecollectError) as caught:
        head.predict([pyramid()])
    sys.stdout.write(f"an empty memory asked:\n    {type(caught.value).__name__}: {caught.value}\n")


if __name__ == "__main__":
    main()

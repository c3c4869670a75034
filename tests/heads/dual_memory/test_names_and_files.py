"""Names given in every way, files of offsets that anyone may have written, and words of errors."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from recollect import DualMemoryClassifier, Memory, MemoryClassifier, errors
from recollect.heads.dual_memory.negative import Doubts, Negative
from recollect.heads.dual_memory.offsets import ROLES, Offsets

EAST, NORTH = [1.0, 0.0], [0.0, 1.0]


@pytest.fixture
def head():
    return DualMemoryClassifier([EAST, NORTH], ["crow", "owl"]).fit([EAST] * 2, ["crow"] * 2)


# -- names -------------------------------------------------------------------------------------


def test_names_given_for_a_memory_of_shots_are_explained_though_they_are_no_rows():
    """They answer, so they have their part in the answer; there is no row to point at."""
    memory = Memory.create(":memory:", dim=2)
    memory.add([EAST, NORTH], ["crow", "owl"])
    head = DualMemoryClassifier([[0.9, 0.4], NORTH], ["crow", "owl"], memory=memory)

    why = head.explain([EAST])[0]

    assert [(row.id, row.metadata.get("part")) for row in why.evidence] == [(0, None), (-1, "text")]
    assert sum(row.contribution for row in why.evidence) == pytest.approx(why.score, abs=1e-12)


def test_vectors_changed_in_place_are_taught_by_the_next_fit():
    """The array is the same one; what it holds is not."""
    text = np.array([EAST, NORTH])
    head = DualMemoryClassifier(text, ["crow", "owl"]).fit()

    text[:] = text[::-1].copy()

    assert head.fit().predict([EAST]).tolist() == ["owl"]


def test_a_mapping_changed_in_place_is_taught_by_the_next_fit():
    """The same for names and vectors side by side."""
    text = {"crow": EAST, "owl": NORTH}
    head = DualMemoryClassifier(text).fit()

    text["jay"] = text.pop("crow")

    assert head.fit().predict([EAST]).tolist() == ["jay"]


def test_names_changed_in_place_are_taught_by_the_next_fit():
    """And for the list of names."""
    names = ["crow", "owl"]
    head = DualMemoryClassifier([EAST, NORTH], names).fit()

    names[0] = "jay"

    assert head.fit().classes_.tolist() == ["jay", "owl"]


@pytest.mark.parametrize("kind", [DualMemoryClassifier, MemoryClassifier])
def test_a_label_that_ends_in_nul_stays_apart_from_the_one_without(kind):
    """NumPy's text drops the NUL, and two classes would answer by one name."""
    head = kind().fit([EAST, NORTH], ["crow", "crow\0"])

    assert head.classes_.tolist() == ["crow", "crow\0"]
    assert head.predict([NORTH, EAST]).tolist() == ["crow\0", "crow"]


# -- files of offsets --------------------------------------------------------------------------


def member(header, rest=b""):
    """An array file whose header says what it likes."""
    text = (header + "\n").encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + rest


def archive(path, how=zipfile.ZIP_STORED, **members):
    with zipfile.ZipFile(path, "w", how) as file:
        for name, raw in members.items():
            file.writestr(f"{name}.npy", raw)
    return path


def a_plain_array(path):
    with path.open("wb") as file:
        np.save(file, np.zeros((2, 2)))


def a_shape_that_no_machine_holds(path):
    shape = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000, 1000)}"
    archive(path, query=member(shape))


def a_negative_shape(path):
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -2)}"
    archive(path, query=member(header, bytes(16)))


def a_header_nested_too_deep(path):
    archive(path, query=member("(" * 5000))


def a_compressed_member_that_is_damaged(path):
    raw = io.BytesIO()
    np.save(raw, np.arange(400.0))
    archive(path, zipfile.ZIP_DEFLATED, query=raw.getvalue())
    told = bytearray(path.read_bytes())
    told[60:70] = b"\xff" * 10
    path.write_bytes(told)


def a_compression_that_nobody_knows(path):
    archive(path, query=b"1234")
    told = path.read_bytes().replace(b"PK\x01\x02\x14\x03\x14\x00\x00\x00\x00\x00",
                                     b"PK\x01\x02\x14\x03\x14\x00\x00\x00\x63\x00")  # fmt: skip
    path.write_bytes(told)


def objects_instead_of_numbers(path):
    np.savez(path, **{role: np.array([[{}]]) for role in ROLES}, position="all")


def numbers_with_an_imaginary_part(path):
    np.savez(path, **{role: np.ones((1, 1), complex) for role in ROLES}, position="all")


@pytest.mark.parametrize(
    "forge",
    [
        a_plain_array,
        a_shape_that_no_machine_holds,
        a_negative_shape,
        a_header_nested_too_deep,
        a_compressed_member_that_is_damaged,
        a_compression_that_nobody_knows,
        objects_instead_of_numbers,
        numbers_with_an_imaginary_part,
    ],
)
def test_a_forged_file_holds_no_offsets(forge, tmp_path):
    """One error of ours, whatever anyone wrote into it."""
    forge(tmp_path / "forged.npz")

    with pytest.raises(errors.CorruptMemory, match="no offsets"):
        Offsets.load(tmp_path / "forged.npz")


def test_offsets_cut_short_or_altered_anywhere_are_never_a_foreign_error(tmp_path):
    """Each byte of a small file in turn; what is still readable may be read."""
    path = tmp_path / "offsets.npz"
    Offsets(*np.zeros((5, 1, 1))).save(path)
    whole = path.read_bytes()

    for place in range(0, len(whole), 3):
        for raw in (whole[:place], whole[:place] + b"\xff" + whole[place + 1 :]):
            path.write_bytes(raw)
            try:
                Offsets.load(path)
            except errors.CorruptMemory:
                continue


def test_a_file_that_is_not_there_and_a_path_that_is_none(tmp_path):
    """As for every file of this library."""
    with pytest.raises(errors.MemoryNotFound):
        Offsets.load(tmp_path / "nothing.npz")
    with pytest.raises(errors.InvalidParameter, match="no path"):
        Offsets.load(5)


def test_offsets_are_not_written_into_a_folder_that_is_not_there(tmp_path):
    """As for every file of this library."""
    with pytest.raises(errors.WriteFailed, match="could not be written"):
        Offsets(*np.zeros((5, 1, 1))).save(tmp_path / "nowhere" / "offsets.npz")


@pytest.mark.parametrize("change", [{"maps": [1]}, {"key": np.ones((2, 2), complex)},
                                    {"key": None}, {"position": np.array(["all", "key"])}],
                         ids=str)  # fmt: skip
def test_offsets_of_another_kind_are_refused(change):
    """And the error says what to pass instead."""
    given = dict.fromkeys(ROLES, np.zeros((2, 2))) | change

    with pytest.raises(errors.InputError) as caught:
        Offsets(**given)

    assert not isinstance(caught.value, errors.NonFinite)
    assert caught.value.expected
    assert caught.value.remedy


def test_offsets_of_no_class_are_refused():
    """The mean over them is no number."""
    with pytest.raises(errors.DimensionMismatch, match="at least 1"):
        Offsets(*np.zeros((5, 0, 3)))


# -- negative evidence -------------------------------------------------------------------------


@pytest.mark.parametrize(("order", "own"), [("write-read", 1.0), ("read-write", 0.0),
                                            ("read-others", 0.0)])  # fmt: skip
def test_a_picture_is_no_evidence_against_itself_where_its_own_slot_is_not_read(order, own):
    """Only as published it is read after it was written."""
    doubt = Doubts(np.zeros(1, int), np.ones(1), np.ones((1, 2), bool), np.ones(1, bool))

    against = Negative(2, 2).follow(np.array([EAST], np.float32), doubt, order=order)

    assert against.tolist() == [[own, own]]


def test_the_first_picture_read_with_its_own_slot_empty_has_nothing_against_it():
    """Names alone, an unsure picture: nobody else was there."""
    options = {"scale": 4.0, "order": "read-others", "weights": (0.0, 1.0, 0.0)}
    text = [EAST, NORTH, [-1.0, 0.0]]
    asked = [[0.7, 0.3]]

    doubting = DualMemoryClassifier(text, negative=50.0, **options).fit()
    plain = DualMemoryClassifier(text, **options).fit()

    assert np.array_equal(doubting.observe(asked).probability, plain.observe(asked).probability)
    assert not np.array_equal(doubting.predict_proba(asked), plain.predict_proba(asked))


def test_a_picture_that_was_displaced_is_no_evidence_for_the_one_that_displaced_it():
    """Read after the write, though without the own slot: the third sees one of the first two."""
    x = np.array([EAST, EAST, EAST], np.float32)
    doubt = Doubts(np.zeros(3, int), np.array([3.0, 2.0, 1.0]), np.ones((3, 1), bool),
                   np.ones(3, bool))  # fmt: skip

    told = {order: Negative(1, 2).follow(x, doubt, order=order)[:, 0].tolist()
            for order in ("write-read", "read-write", "read-others")}  # fmt: skip

    assert told == {
        "write-read": [1.0, 2.0, 2.0],
        "read-write": [0.0, 1.0, 2.0],
        "read-others": [0.0, 1.0, 1.0],
    }


# -- words -------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"oracle": "no"}, {"oracle": 1}, {"weights": "12"},
                                     {"weights": b"12"}], ids=str)  # fmt: skip
def test_tuning_does_not_guess_what_was_meant(head, options):
    """Text is true, and its digits are numbers: neither was meant."""
    with pytest.raises(errors.InvalidParameter):
        head.tune([EAST], ["crow"], **options)


@pytest.mark.parametrize(
    "ask",
    [
        lambda _: DualMemoryClassifier([1.0, 0.0]).fit(),
        lambda head: head.partial_fit([EAST], ["owl"], metadata={"place": ["a", "b"]}),
        lambda head: head.partial_fit([EAST], ["owl"], sources=[3]),
        lambda head: head.predict([[np.nan, 0.0]]),
        lambda head: head.partial_fit([[np.inf, 0.0]], ["owl"]),
        lambda head: head.fit(None, ["crow"]),
        lambda head: head.predict(None),
        lambda _: Offsets(np.zeros((2, 2)), *np.zeros((4, 2, 3))),
        lambda _: Offsets(*np.full((5, 1, 1), np.nan)),
    ],
)
def test_an_error_says_what_was_expected_what_came_and_what_to_do(head, ask):
    """In our words, and it recommends nobody else's estimators."""
    with pytest.raises(errors.InputError) as caught:
        ask(head)

    assert caught.value.expected is not None
    assert caught.value.got is not None
    assert caught.value.remedy
    assert "Hist" not in str(caught.value)
    assert "array=" not in str(caught.value)

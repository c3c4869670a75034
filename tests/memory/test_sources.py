"""Labelled inputs from folders, CSV, Parquet and saved data sets: what is found and refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from places import data

from recollect.errors import (
    EmptyBatch,
    InputError,
    InvalidLabel,
    InvalidMetadata,
    InvalidParameter,
    LengthMismatch,
)
from recollect.memory.sources import (
    LabelledInputs,
    read_csv,
    read_dataset,
    read_files,
    read_folder,
    read_inputs,
    read_parquet,
)

pa = pytest.importorskip("pyarrow")
from pyarrow import parquet as pq  # noqa: E402 - after the check that it is installed


@pytest.fixture
def animals(tmp_path):
    """A folder of two classes, with what else lies in folders."""
    for name in ("dog/a.PNG", "cat/b.jpg", "cat/a.jpg", "cat/old/c.jpg", "cat/.hidden.jpg"):
        file = tmp_path / "animals" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"image")
    (tmp_path / "animals" / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "animals" / ".cache").mkdir()
    (tmp_path / "animals" / ".cache" / "x.png").write_bytes(b"image")
    return tmp_path / "animals"


def write(folder, name, text):
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


# Folders


def test_a_folder_gives_sorted_paths_with_the_first_folder_as_label(animals):
    """The order is part of what makes a run repeatable; nested folders belong to their class."""
    inputs = read_folder(animals)

    assert inputs.sources == [
        "animals/cat/a.jpg",
        "animals/cat/b.jpg",
        "animals/cat/old/c.jpg",
        "animals/dog/a.PNG",
    ]
    assert inputs.labels == ["cat", "cat", "cat", "dog"]
    assert inputs.inputs[0] == str(animals / "cat" / "a.jpg")
    assert inputs.modality == "image"


def test_a_link_that_leaves_the_folder_is_refused(animals, tmp_path):
    """A data set from elsewhere must not read files of the machine it lands on."""
    secret = write(tmp_path, "secret.png", "secret")
    (animals / "cat" / "link.png").symlink_to(secret)

    with pytest.raises(InputError, match=r"link\.png leaves the folder"):
        read_folder(animals)


def test_a_link_to_a_folder_outside_is_refused(animals, tmp_path):
    """A whole folder can be smuggled in as well as a file."""
    (tmp_path / "outside").mkdir()
    (animals / "bird").symlink_to(tmp_path / "outside")

    with pytest.raises(InputError, match="bird leaves the folder"):
        read_folder(animals)


def test_a_link_within_the_folder_is_read_and_a_loop_ends(animals):
    """Links between classes are common in hand-made sets; a loop must not hang."""
    (animals / "dog" / "b.jpg").symlink_to(animals / "cat" / "a.jpg")
    (animals / "dog" / "loop").symlink_to(animals)

    assert read_folder(animals).labels == ["cat", "cat", "cat", "dog", "dog"]


def test_a_link_that_leads_nowhere_is_refused(animals):
    """Passing it over would hide that an image is missing."""
    (animals / "dog" / "gone.jpg").symlink_to(animals / "cat" / "gone.jpg")

    with pytest.raises(InputError, match="leads nowhere"):
        read_folder(animals)


def test_an_image_outside_any_class_is_refused_when_labels_are_needed(animals):
    """Leaving it out silently would lose a row."""
    (animals / "stray.png").write_bytes(b"image")

    with pytest.raises(InputError, match=r"animals/stray\.png lies in no class folder"):
        read_folder(animals)

    assert len(read_folder(animals, labelled=False)) == 5
    assert read_folder(animals, labelled=False).labels is None


def test_a_folder_without_images_is_an_empty_batch(tmp_path):
    """The likeliest cause is a wrong path; say what was looked for."""
    with pytest.raises(EmptyBatch, match=r"\.jpeg"):
        read_folder(tmp_path)


def test_a_file_name_that_is_no_text_is_refused(animals):
    """Sources are stored as text; half a character could not be."""
    (animals / "cat" / "b\udcff.jpg").write_bytes(b"image")

    with pytest.raises(InputError, match="not valid UTF-8"):
        read_folder(animals)


def test_single_files_take_the_label_they_are_given(animals):
    """Five pictures of a new class need no folder of their own."""
    files = [animals / "dog" / "a.PNG", animals / "cat" / "a.jpg"]

    inputs = read_files(files, label="pet")

    assert inputs.labels == ["pet", "pet"]
    assert inputs.sources == [str(file) for file in files]


def test_a_single_file_that_does_not_exist_is_refused(tmp_path):
    """One error before anything is encoded."""
    with pytest.raises(InputError, match="no file at"):
        read_files([tmp_path / "gone.png"], label="pet")


# CSV


def test_a_csv_gives_texts_labels_and_typed_metadata(tmp_path):
    """Empty cells are missing values; a column of whole numbers is a column of integers."""
    text = "text,label,year,score,seen,note\nhello,a,2020,0.5,true,x\nbye,b,,1,False,\n"
    inputs = read_csv(write(tmp_path, "asked.csv", text))

    assert inputs.inputs == ["hello", "bye"]
    assert inputs.labels == ["a", "b"]
    assert inputs.sources == ["asked.csv#0", "asked.csv#1"]
    assert inputs.metadata == {
        "year": [2020, None],
        "score": [0.5, 1.0],
        "seen": [True, False],
        "note": ["x", None],
    }
    assert inputs.modality == "text"


def test_names_are_preferred_to_numbers_as_labels(tmp_path):
    """An answer should be readable; the number stays as metadata, under a name that is free."""
    inputs = read_csv(write(tmp_path, "x.csv", "text,label,category\nhello,3,greeting\n"))

    assert inputs.labels == ["greeting"]
    assert inputs.metadata == {"label_": [3]}


def test_whole_numbers_stay_integers_and_leading_zeros_stay_text(tmp_path):
    """01 is a name, not a number: it must come back as it was."""
    assert read_csv(write(tmp_path, "x.csv", "text,label\na,1\nb,20\n")).labels == [1, 20]
    assert read_csv(write(tmp_path, "x.csv", "text,label\na,01\nb,20\n")).labels == ["01", "20"]


def test_the_type_of_labels_can_be_chosen(tmp_path):
    """A memory holds either names or numbers, and the file may say otherwise."""
    file = write(tmp_path, "x.csv", "text,label\na,1\nb,20\n")

    assert read_csv(file, label_type="str").labels == ["1", "20"]
    assert read_csv(file, label_type="int").labels == [1, 20]


def test_labels_that_are_no_integers_are_refused_with_their_row(tmp_path):
    """One row in a million is wrong: name it."""
    with pytest.raises(InvalidLabel, match="row 1 is no integer"):
        read_csv(write(tmp_path, "x.csv", "text,label\na,1\nb,two\n"), label_type="int")


def test_image_paths_are_relative_to_the_csv(tmp_path):
    """A set that is moved as a whole keeps working."""
    inputs = read_csv(write(tmp_path, "x.csv", "path,class\nimages/1.png,cat\n,dog\n"))

    assert inputs.inputs == [str(tmp_path / "images" / "1.png"), b""]
    assert inputs.sources == ["images/1.png", "x.csv#1"]
    assert inputs.modality == "image"


def test_a_tsv_is_separated_by_tabs_and_a_byte_order_mark_is_read(tmp_path):
    """Spreadsheets write both."""
    file = write(tmp_path, "x.tsv", "\ufefftext\tlabel\na, b\tc\n\n")

    assert read_csv(file).inputs == ["a, b"]


def test_columns_can_be_named(tmp_path):
    """Defaults are for the common case only."""
    file = write(tmp_path, "x.csv", "q,a,b,c\nhow,x,y,1\n")

    inputs = read_csv(file, text="q", label="b", metadata=["c"])

    assert (inputs.inputs, inputs.labels, inputs.metadata) == (["how"], ["y"], {"c": [1]})


@pytest.mark.parametrize(
    ("text", "options", "error", "message"),
    [
        ("", {}, InputError, "must name every column"),
        ("text,text\na,b\n", {}, InputError, "each differently"),
        ("text,label\n", {}, EmptyBatch, "holds no rows"),
        ("text,label\na\n", {}, InputError, "line 2: .*expected 2, got 1"),
        ("text,label\na,\n", {}, InvalidLabel, "row 0 has no label"),
        ("text,x\na,b\n", {}, InputError, "which column holds the labels.*x \\(text\\)"),
        ("x,label\na,b\n", {}, InputError, "which column holds the inputs"),
        ("text,label\na,b\n", {"label": "lable"}, InputError, "has no column 'lable'"),
        ("text,label\na,b\n", {"label": "text", "text": "text"}, InvalidParameter, "both input"),
        ("text,label\na,b\n", {"image": "a", "text": "b"}, InvalidParameter, "both an image"),
        ("text,label\n1,b\n", {"text": "text"}, InputError, "cannot be used so"),
        ("text,label\na,b\n", {"label_type": "float"}, InvalidParameter, "unknown label type"),
        ("text,label\na,b\n", {"colour": "x"}, InvalidParameter, "unknown option 'colour'"),
        ('text,label\n"a,b\n', {}, InputError, "no readable CSV"),
        ("text,label\n" + "a" * 200_000 + ",b\n", {}, InputError, "no readable CSV"),
    ],
)
def test_a_csv_that_cannot_be_used_gives_one_error(tmp_path, text, options, error, message):
    """Each mistake is named before anything is encoded or stored."""
    with pytest.raises(error, match=message) as caught:
        read_csv(write(tmp_path, "x.csv", text), **options)

    assert caught.value.remedy


def test_a_csv_in_another_encoding_is_refused(tmp_path):
    """Guessing an encoding would store wrong letters."""
    (tmp_path / "x.csv").write_bytes("text,label\nä,b\n".encode("latin-1"))

    with pytest.raises(InputError, match="not UTF-8: got byte 0xe4"):
        read_csv(tmp_path / "x.csv")


def test_labels_may_be_absent_when_they_are_not_needed(tmp_path):
    """To predict is to ask for labels, not to have them."""
    file = write(tmp_path, "x.csv", "text,x\na,b\n")

    assert read_csv(file, labelled=False).labels is None


# Parquet


@pytest.fixture
def table(tmp_path):
    """Five images in row groups of two: as bytes, as Hugging Face writes them, and missing."""
    images = [
        {"bytes": b"0", "path": None},
        {"bytes": None, "path": "far/1.png"},
        {"bytes": b"2", "path": "2.png"},
        None,
        {"bytes": b"4", "path": None},
    ]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {
        "image": pa.array(images, kind),
        "label": pa.array([0, 1, 0, 1, 0], pa.int8()),
        "class_name": pa.array(["x", "y", "x", "y", "x"]).dictionary_encode(),
        "taken": pa.array([0, None, 0, 0, 0], pa.date32()),
        "boxes": pa.array([[1], [], [], [], []]),
    }
    pq.write_table(pa.table(columns), tmp_path / "train.parquet", row_group_size=2)
    return tmp_path / "train.parquet"


def test_parquet_gives_images_as_they_are_kept(table):
    """Bytes, a path beside the file, or nothing, which an encoder reports as a bad image."""
    inputs = read_parquet(table)

    assert list(inputs.inputs) == [b"0", str(table.parent / "far/1.png"), b"2", b"", b"4"]
    assert inputs.labels == ["x", "y", "x", "y", "x"]
    assert inputs.sources[4] == "train.parquet#4"
    assert inputs.metadata["label_"] == [0, 1, 0, 1, 0]
    assert inputs.metadata["taken"] == ["1970-01-01", None, *["1970-01-01"] * 3]
    assert "boxes" not in inputs.metadata


def test_lazy_images_answer_to_slices_and_negative_places(table):
    """Encoders take batches by slicing."""
    images = read_parquet(table).inputs

    assert images[1:5:3] == [str(table.parent / "far/1.png"), b"4"]
    assert images[-1] == b"4"
    assert len(images) == 5


def test_a_place_beyond_the_last_image_is_an_index_error(table):
    """Iteration over a sequence ends by it."""
    with pytest.raises(IndexError):
        read_parquet(table).inputs[5]


def test_a_truncated_parquet_file_is_one_error(table):
    """pyarrow has a dozen errors of its own; a caller should need to know none."""
    table.write_bytes(table.read_bytes()[:-9])

    with pytest.raises(InputError, match="no readable Parquet file"):
        read_parquet(table)


def test_a_file_that_vanishes_before_it_is_read_is_one_error(table):
    """Reading is lazy, so the file may be gone by then."""
    inputs = read_parquet(table).inputs
    table.unlink()

    with pytest.raises(InputError, match="no readable Parquet file"):
        inputs[0]


def test_an_integer_beyond_64_bits_is_refused_as_metadata(tmp_path):
    """A memory keeps 64-bit integers; wrapping round would be a wrong value."""
    columns = {"text": ["a"], "label": ["b"], "big": pa.array([2**64 - 1], pa.uint64())}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")

    with pytest.raises(InvalidMetadata, match="more than 64 bits in row 0"):
        read_parquet(tmp_path / "x.parquet")


def test_nan_is_a_missing_number(tmp_path):
    """Tables of numbers write missing cells so; a memory keeps finite numbers or none."""
    columns = {"text": ["a", "b"], "label": ["x", "y"], "score": [0.5, float("nan")]}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")

    assert read_parquet(tmp_path / "x.parquet").metadata == {"score": [0.5, None]}


def test_a_missing_text_is_refused_with_its_row(tmp_path):
    """There is nothing to encode."""
    pq.write_table(pa.table({"text": ["a", None], "label": [1, 2]}), tmp_path / "x.parquet")

    with pytest.raises(InputError, match="row 1 has no text"):
        read_parquet(tmp_path / "x.parquet")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.data())
def test_a_damaged_parquet_file_never_raises_anything_foreign(table, tmp_path, data):
    """A file may come from anywhere; each byte of it may be wrong."""
    raw = bytearray(table.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    damaged = tmp_path / "damaged.parquet"
    damaged.write_bytes(raw)

    try:
        list(read_parquet(damaged).inputs)
    except InputError as error:
        assert error.remedy  # noqa: PT017 - an undamaged answer is fine too


# Hugging Face data sets on disk


@pytest.fixture
def saved(tmp_path):
    """A data set of two splits with class names and tiny encoded images."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        image=datasets.Image(),
        label=datasets.ClassLabel(names=["cat", "dog"]),
        year=datasets.Value("int32"),
    )
    rows = {
        "image": [{"bytes": b"0", "path": None}, {"bytes": b"1", "path": None}, None],
        "label": [1, 0, 1],
        "year": [2020, None, 2022],
    }
    train = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict(train=train, test=train.select([2])).save_to_disk(tmp_path / "pets")
    return tmp_path / "pets"


def test_a_saved_data_set_gives_the_names_of_its_classes(saved):
    """Class labels are stored as numbers and mean their names."""
    inputs = read_dataset(saved, split="train")

    assert inputs.labels == ["dog", "cat", "dog"]
    assert inputs.inputs[:] == [b"0", b"1", b""]
    assert inputs.inputs[1] == b"1"
    assert inputs.sources[0] == "pets/train#0"
    assert inputs.metadata == {"year": [2020, None, 2022]}


def test_a_data_set_of_several_splits_asks_for_one(saved):
    """Taking all would mix training and test rows."""
    with pytest.raises(InputError, match="several splits: expected one of train, test"):
        read_dataset(saved)


def test_a_data_set_that_is_damaged_is_one_error(saved):
    """The library that reads it raises errors of many kinds."""
    (saved / "train" / "state.json").write_text("{")

    with pytest.raises(InputError, match="cannot be read"):
        read_dataset(saved, split="train")


def test_a_folder_that_is_no_data_set_is_refused(tmp_path):
    """A wrong path is the commonest mistake."""
    with pytest.raises(InputError, match="no Hugging Face data set"):
        read_dataset(tmp_path)


# Whatever is there


def test_the_reader_is_chosen_by_what_is_there(animals, table, saved, tmp_path):
    """One verb for all of them."""
    text = write(tmp_path, "x.csv", "text,label\nhello,a\n")

    assert read_inputs(animals).sources[0] == "animals/cat/a.jpg"
    assert read_inputs(table).sources[0] == "train.parquet#0"
    assert read_inputs(text).sources[0] == "x.csv#0"
    assert read_inputs(saved, split="test").sources[0] == "pets/test#0"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gone", {}, "nothing at"),
        ("x.txt", {}, "cannot be read"),
        ("x.png", {}, "cannot be read"),
        ("x.csv", {"split": "train"}, "has no splits"),
        ("animals", {"label": "x"}, "has no columns: got label"),
        ("tables", {}, "holds tables, not class folders"),
        ("x.csv", {"limit": 0}, "limit is out of range"),
    ],
)
def test_a_path_that_cannot_be_read_says_what_could(animals, tmp_path, name, options, message):
    """The message lists what is readable, or names the option that does not belong."""
    write(tmp_path, "x.txt", "")
    write(tmp_path, "x.png", "")
    write(tmp_path, "x.csv", "text,label\nhello,a\n")
    (tmp_path / "tables").mkdir()
    write(tmp_path / "tables", "x.csv", "text,label\nhello,a\n")

    with pytest.raises(InputError, match=message) as caught:
        read_inputs(tmp_path / name, **options)

    assert caught.value.remedy


def test_folder_names_can_be_read_as_integers(tmp_path):
    """Digit folders taught into a memory whose labels are integers."""
    (tmp_path / "digits" / "7").mkdir(parents=True)
    (tmp_path / "digits" / "7" / "a.png").write_bytes(b"image")

    assert read_inputs(tmp_path / "digits").labels == ["7"]
    assert read_inputs(tmp_path / "digits", label_type="int").labels == [7]


# Subsets


def test_a_limit_is_shared_evenly_by_the_classes():
    """A random hundred of a skewed set would leave classes out."""
    inputs = LabelledInputs(list("abcdefgh"), list("xxxxxyzz"), list("abcdefgh"))

    chosen = inputs.sample(limit=5, seed=3)

    assert sorted(chosen.labels) == ["x", "x", "y", "z", "z"]
    assert chosen.sources == sorted(chosen.sources)
    assert chosen == inputs.sample(limit=5, seed=3)


def test_so_many_of_each_class_can_be_drawn():
    """Few-shot: five of each."""
    inputs = LabelledInputs(list("abcdefgh"), list("xxxxxyzz"), list("abcdefgh"))

    assert inputs.sample(per_class=2).labels == ["x", "x", "y", "z", "z"]


def test_a_subset_of_lazy_images_stays_lazy(table):
    """Choosing a hundred of a million images must not read the million."""
    chosen = read_parquet(table).take([4, 0])
    table.unlink()

    assert chosen.sources == ["train.parquet#4", "train.parquet#0"]
    with pytest.raises(InputError):
        chosen.inputs[0]


def test_columns_of_different_length_are_refused():
    """One label too few would shift every label after it."""
    with pytest.raises(LengthMismatch, match=r"'labels'.*expected 2, got 1"):
        LabelledInputs(["a", "b"], ["x"], ["1", "2"])


# Real data


def test_cifar10_is_read_with_its_class_names():
    """The file of the reproduction: binary images and names beside numbers."""
    inputs = read_inputs(data("cifar10", "test.parquet"), per_class=2, metadata=[])
    first = inputs.inputs[0]

    assert len(inputs) == 2 * len(set(inputs.labels))
    assert all(isinstance(label, str) for label in inputs.labels)
    assert first.startswith(b"\xff\xd8")


def test_caltech101_is_read_across_its_row_groups():
    """Larger images in several row groups."""
    inputs = read_inputs(data("caltech101", "val.parquet"))

    assert inputs.metadata["name"][-1].split("/")[0] == inputs.labels[-1]
    assert inputs.inputs[-1].startswith(b"\xff\xd8")
    assert inputs.inputs[0].startswith(b"\xff\xd8")


def test_banking77_is_read_with_the_names_of_its_intents():
    """Texts with quotes, commas and pound signs; the names are those in the list beside it."""
    folder = data("banking77")
    names = json.loads((folder / "categories.json").read_text(encoding="utf-8"))

    inputs = read_inputs(folder / "test.csv")

    assert set(inputs.labels) == set(names)
    assert inputs.labels == [names[code] for code in inputs.metadata["label_"]]


def test_trec_is_read_with_its_coarse_names_or_the_column_that_is_named():
    """Two label columns: the coarse one by default, the fine one on request."""
    file = data("trec", "test.csv")

    coarse, fine = read_inputs(file), read_inputs(file, label="fine_name")

    assert [name.split(":")[0] for name in fine.labels] == coarse.labels
    assert fine.metadata["coarse_name"] == coarse.labels

"""A new encoder for a memory: from its sources, aligned where they are gone, and undone."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from recollect import Memory, MemoryClassifier
from recollect.encoders import HashingTextEncoder, PixelEncoder
from recollect.errors import EmptyMemory, EncoderMismatch, InvalidParameter
from recollect.heads.migration import align_keys, migrate, plan_migration

SMALL, LARGE = PixelEncoder(size=2), PixelEncoder(size=4)


@pytest.fixture
def pictures(tmp_path):
    """Twelve pictures on the disk: six dark above, six dark below, a little different each."""
    rng = np.random.default_rng(0)
    for number in range(12):
        pixels = rng.integers(150, 255, (8, 8, 3)).astype(np.uint8)
        part = slice(0, 4) if number % 2 else slice(4, 8)
        pixels[part] //= 8
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    return tmp_path


@pytest.fixture
def memory(pictures):
    """All of them, under the small encoder."""
    memory = Memory.create(":memory:", dim=SMALL.dim, encoder=SMALL)
    paths = [pictures / f"{number}.png" for number in range(12)]
    memory.add(SMALL.encode(paths), ["below", "above"] * 6, sources=[p.name for p in paths])
    return memory


def test_rows_are_encoded_again_from_their_sources(memory, pictures):
    """The keys are those that the new encoder gives the files."""
    report = migrate(memory, LARGE, root=pictures, k=3)

    expected = LARGE.encode([pictures / f"{number}.png" for number in range(12)])
    assert np.array_equal(memory.rows().keys, expected)
    assert memory.encoder == LARGE.fingerprint
    assert (report.encoded, report.aligned.tolist(), report.version) == (12, [], 2)
    assert (report.agreement.same, report.agreement.accuracy_after) == (1.0, 1.0)


def test_a_plan_writes_nothing_until_it_is_switched_to(memory, pictures):
    """Look first."""
    plan = plan_migration(memory, LARGE, root=pictures)

    assert (memory.version, memory.dim) == (1, SMALL.dim)
    assert plan.switch() == 2
    assert memory.dim == LARGE.dim


def test_restoring_undoes_it(memory, pictures):
    """The keys of before are all still there."""
    before = memory.rows().keys
    report = migrate(memory, LARGE, root=pictures)
    memory.restore(report.before)

    assert np.array_equal(memory.rows().keys, before)
    assert memory.encoder == SMALL.fingerprint


def test_rows_whose_source_is_gone_are_aligned_and_marked(memory, pictures):
    """They keep answering, and anyone can find them."""
    for number in (0, 5):
        (pictures / f"{number}.png").unlink()
    (pictures / "7.png").write_bytes(b"no picture any more")

    report = migrate(memory, LARGE, root=pictures, k=3)

    assert report.aligned.tolist() == [0, 5, 7]
    assert memory.find("aligned = true").tolist() == [0, 5, 7]
    assert memory.find("aligned = false").tolist() == [1, 2, 3, 4, 6, 8, 9, 10, 11]
    assert report.cost.rows == 5
    assert report.cost.accuracy_aligned == report.cost.accuracy_real
    assert report.cost.cosine > 0.97
    assert report.agreement.same == 1.0


def test_alignment_can_be_forbidden(memory, pictures):
    """Some would rather remove such rows."""
    (pictures / "3.png").unlink()

    with pytest.raises(InvalidParameter, match="some sources are gone"):
        migrate(memory, LARGE, root=pictures, align=False)
    assert memory.version == 1


def test_answers_that_change_are_named(memory, pictures):
    """With a fetch of one's own: here the pictures of the other half."""
    other = [pictures / f"{number ^ 1}.png" for number in range(12)]

    report = plan_migration(memory, LARGE, fetch=lambda _, place: other[place], k=3).report

    assert report.agreement.same == 1.0  # all of them moved together
    wrong = plan_migration(
        memory, LARGE, fetch=lambda _, place: other[0] if place == 0 else other[place ^ 1], k=3
    ).report
    assert wrong.agreement.flips == ((0, "below", "above"),)
    assert wrong.agreement.same == pytest.approx(11 / 12)


def test_a_memory_that_was_written_to_meanwhile_is_not_switched(memory, pictures):
    """The new rows would have no key."""
    plan = plan_migration(memory, LARGE, root=pictures)
    memory.remove([3])

    with pytest.raises(InvalidParameter, match="was written to since"):
        plan.switch()


def test_texts_are_read_from_their_column():
    """Where the command line keeps them."""
    small, large = HashingTextEncoder(dim=16), HashingTextEncoder(dim=32)
    texts = ["cats purr", "cats sleep", "dogs bark", "dogs run"]
    memory = Memory.create(":memory:", dim=16, encoder=small)
    memory.add(small.encode(texts), ["cat", "cat", "dog", "dog"], metadata={"text": texts})

    migrate(memory, large)

    assert np.array_equal(memory.rows().keys, large.encode(texts))


def test_a_classifier_with_the_old_encoder_is_stopped(memory, pictures):
    """Keys of two encoders must never be compared."""
    head = MemoryClassifier(k=3, encoder=SMALL, memory=memory)
    head.predict([pictures / "0.png"])
    migrate(memory, LARGE, root=pictures)

    with pytest.raises(EncoderMismatch):
        head.predict([pictures / "0.png"])


def test_nothing_to_migrate_is_refused(memory, tmp_path):
    """No rows, or no source of any."""
    with pytest.raises(EmptyMemory):
        migrate(Memory.create(":memory:", dim=SMALL.dim), LARGE)
    with pytest.raises(InvalidParameter, match="no source of a row can be read"):
        migrate(memory, LARGE, root=tmp_path / "elsewhere")


def test_alignment_finds_a_turn_of_the_space():
    """New keys that are old keys turned by a quarter are found from a few pairs."""
    rng = np.random.default_rng(1)
    old = rng.normal(size=(500, 3))
    turn = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]])

    mapped = align_keys(old[:400], old[:400] @ turn, old[400:])

    expected = old[400:] @ turn
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    mapped /= np.linalg.norm(mapped, axis=1, keepdims=True)
    assert (mapped * expected).sum(axis=1).min() > 0.99


def test_what_is_encoded_at_last_is_aligned_no_more(memory, pictures):
    """Before, the mark of the first migration outlived a second that found all sources."""
    away = (pictures / "3.png").rename(pictures / "away.png")
    migrate(memory, LARGE, root=pictures)
    assert memory.find("aligned = true").tolist() == [3]
    away.rename(pictures / "3.png")

    report = migrate(memory, PixelEncoder(size=3), root=pictures)

    assert report.aligned.tolist() == []
    assert memory.find("aligned = true").tolist() == []


def test_without_alignment_there_is_no_column(memory, pictures):
    """Nothing to mark."""
    migrate(memory, LARGE, root=pictures)

    assert "aligned" not in memory.rows().metadata


def test_rows_are_encoded_some_at_a_time(memory, pictures, monkeypatch):
    """The same keys, whatever the size of a block."""
    whole = plan_migration(memory, LARGE, root=pictures)._keys
    monkeypatch.setattr("recollect.heads.migration.BLOCK", 5)
    (pictures / "0.png").write_bytes(b"no picture")
    seen = []

    plan = plan_migration(
        memory, LARGE, root=pictures, progress=lambda done, total: seen.append((done, total))
    )

    assert np.array_equal(plan._keys[1:], whole[1:])
    assert plan.report.aligned.tolist() == [0]
    assert seen == [(5, 12), (10, 12), (12, 12)]


@pytest.mark.parametrize(
    "options",
    [{"sample": 0}, {"sample": 2.5}, {"k": 0}, {"k": "all"}, {"root": 3}, {"fetch": "files"},
     {"batch_size": 0}],
    ids=repr,
)  # fmt: skip
def test_an_option_out_of_range_is_refused_before_anything_is_encoded(memory, options):
    """Encoding may take hours."""
    with pytest.raises(InvalidParameter):
        plan_migration(memory, LARGE, **options)


def test_what_is_no_encoder_is_refused(memory):
    """A name must be turned into one first."""
    with pytest.raises(InvalidParameter, match="this is no encoder"):
        plan_migration(memory, "onnx:model.onnx")


def test_a_weighted_metric_is_refused_before_anything_is_encoded(pictures):
    """Its weights are those of the old dimensions."""
    weighted = Memory.create(
        ":memory:", dim=SMALL.dim, metric="manhattan", metric_weights=np.ones(SMALL.dim)
    )
    weighted.add(np.ones((1, SMALL.dim)), ["a"], sources=[str(pictures / "0.png")])

    with pytest.raises(InvalidParameter, match="weight for each dimension"):
        plan_migration(weighted, LARGE)

"""The reproduction of dense memories: on made-up signals, small enough for every run."""

from __future__ import annotations

import json

import numpy as np
import pytest

from recollect.encoders import LocalStatistics
from recollect.errors import InputError, InvalidParameter
from recollect.evaluation import dense_baselines as baselines
from recollect.evaluation.dense_data import CAMVID, Samples, Task, pyramids
from recollect.evaluation.reproduce import (
    dense_answers,
    dense_continual,
    dense_decoder,
    dense_memory,
    dense_memory_page,
    dense_query,
)
from recollect.evaluation.reproduce.dense_memory_page import page

RECORDS, LENGTH = 10, 192


def beats(seed):
    """Two leads with a bump every 32 samples, and where the bumps are."""
    rng = np.random.default_rng(seed)
    place = (np.arange(LENGTH) + seed * 5) % 32
    wave = (place < 8).astype(np.uint8)
    signal = 200 * np.sin(np.pi * place / 8) * wave + rng.normal(size=LENGTH) * 10
    return np.stack([signal, -signal], axis=1).astype(np.int16), wave


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A folder with a set of signals in the form of the QT database."""
    monkeypatch.setenv("RECOLLECT_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "data" / "qtdb_ecg"
    folder.mkdir(parents=True)
    for split, first in (("train", 0), ("test", 100)):
        records = [beats(first + at) for at in range(RECORDS)]
        np.savez(
            folder / f"{split}.npz",
            names=np.array([f"sel{at}" for at in range(RECORDS)]),
            offsets=np.arange(RECORDS + 1) * LENGTH,
            fs=np.int32(250),
            signal_uV=np.concatenate([signal for signal, _ in records]),
            labels=np.concatenate([wave for _, wave in records]),
        )
    return tmp_path / "data"


def task(count=6):
    """Two scenes of one axis with two labels, as a task of masks."""
    encoder = LocalStatistics(1, levels=2, stride=4, scales=1)
    signals, masks = zip(*(beats(seed) for seed in range(count)), strict=True)
    levels = pyramids(encoder, signals, folder=None)
    some = Samples(levels, list(masks), [f"film{at % 2}_{at}" for at in range(count)])
    return Task("made up", "bumps", "labels", ("none", "bump"), 255, some,
                np.array([4]), None, some)  # fmt: skip


def test_the_whole_part_is_measured_and_written(data, tmp_path):
    """Settings, our lines, the baselines, few samples, a page and a picture."""
    report = dense_memory.run(data=data, models=tmp_path, out=tmp_path, part="ecg")

    part = report["parts"]["ecg"]
    names = [line["name"] for line in part["lines"]]
    assert names == [
        "chosen", "linear head", "small convolutional head", "flat search, 100,000 cells",
        "1 sparse level", "2 sparse levels", "3 sparse levels", "as published",
    ]  # fmt: skip
    assert all(0 <= line["miou"] <= 1 for line in part["lines"])
    assert json.loads((tmp_path / "dense-memory.json").read_text()) == report
    assert (tmp_path / "dense-memory.md").read_text() == page(report)
    assert (tmp_path / "dense-memory-ecg.png").stat().st_size > 1000
    assert not list(tmp_path.glob("*.part.json"))


def test_a_run_of_all_goes_on_from_the_parts_that_are_there(tmp_path, monkeypatch):
    """A part takes many minutes; another limit makes it another part."""
    measured = []

    def stand_in(name, *_):
        measured.append(name)
        return {"limit": _[-1]}

    monkeypatch.setattr(dense_memory, "_measured", stand_in)
    monkeypatch.setattr(dense_memory, "PARTS", ("one", "two"))
    monkeypatch.setattr(dense_memory, "_write", lambda out, report: (
        out / "dense-memory.json").write_text(json.dumps(report)))  # fmt: skip
    where = {"data": tmp_path, "models": tmp_path, "out": tmp_path}

    for options in ({"part": "one"}, {}, {}, {"limit": 9}):
        dense_memory.run(**where, **options)

    assert measured == ["one", "two", "one", "two"]


def test_settings_are_never_chosen_on_the_test_samples(data, tmp_path):
    """What is asked while choosing comes from the training file."""
    found = dense_memory.TASKS["ecg"](data, tmp_path)

    memory, asked = found.to_choose()

    assert set(asked.names).isdisjoint(memory.names)
    assert [id(each) for each in asked.truth] == [id(found.train.truth[at]) for at in found.held]


def test_a_part_that_was_stopped_goes_on_from_its_notes(tmp_path):
    """What was measured is not measured again."""
    path = tmp_path / "notes.json"
    dense_answers.Steps(path).once("first", lambda: 1)

    steps = dense_answers.Steps(path)

    assert steps.once("first", lambda: 2) == 1
    steps.finish()
    assert not path.exists()


def test_pyramids_are_computed_once(tmp_path):
    """A second run reads them from the folder."""
    encoder = LocalStatistics(1, levels=2)
    signals = [np.arange(16.0), np.arange(20.0)]

    first, second = (pyramids(encoder, signals, folder=tmp_path) for _ in range(2))

    assert len(list(tmp_path.iterdir())) == 1
    assert [level.shape for level in second[1]] == [(5, 13), (10, 13)]
    assert all(
        np.array_equal(one, two)
        for pair in zip(first, second, strict=True)
        for one, two in zip(*pair, strict=True)
    )


@pytest.mark.parametrize(("options", "error"), [({"part": "moon"}, InvalidParameter),
                                                ({"limit": 3}, InvalidParameter),
                                                ({"part": "ecg"}, InputError)])  # fmt: skip
def test_what_cannot_be_measured_is_refused(tmp_path, options, error):
    """An unknown part, too few samples, no data."""
    with pytest.raises(error):
        dense_memory.run(data=tmp_path, models=tmp_path, **options)


def test_hypercolumns_hold_every_level_at_the_finest_cells():
    """Each level of length 1, the coarser ones interpolated."""
    coarse, fine = np.array([[3.0, 4.0]]), np.array([[2.0], [5.0]])

    columns = baselines.hypercolumns([coarse, fine])

    assert columns == pytest.approx(np.array([[0.6, 0.8, 1.0], [0.6, 0.8, 1.0]]))


def test_baselines_learn_what_is_easy(tmp_path, monkeypatch):
    """Bumps are told from flat stretches by each of them."""
    monkeypatch.setenv("RECOLLECT_CACHE", str(tmp_path))
    easy = task()
    heads = [
        baselines.flat_search(easy.train, 2, 10_000),
        baselines.linear_head(easy.train, 2),
        baselines.conv_head(easy.train, 2, held=easy.train.take([4]), score=lambda *_: 1.0),
    ]

    for trained in heads:
        shares = trained.answer(easy.train.pyramids[0])
        wanted, _ = baselines.targets(easy.train.truth[0], (48,), 2)
        assert (shares.argmax(axis=1) == wanted.argmax(axis=1)).mean() > 0.8


def test_flat_search_among_all_cells_finds_each_cell_itself(tmp_path, monkeypatch):
    """Whether cells are drawn or all are held."""
    monkeypatch.setenv("RECOLLECT_CACHE", str(tmp_path))
    easy = task()

    every = baselines.flat_search(easy.train, 2, None)
    drawn = baselines.flat_search(easy.train, 2, 10**9)

    levels = easy.train.pyramids[0]
    assert every.answer(levels) == pytest.approx(drawn.answer(levels), abs=2e-2)


def test_the_linear_head_ends_where_its_loss_is_flat(tmp_path, monkeypatch):
    """Its gradient has all but vanished, and it says so."""
    monkeypatch.setenv("RECOLLECT_CACHE", str(tmp_path))

    trained = baselines.linear_head(task().train, 2, decay=1e-3)

    assert trained.gradient < 1e-3
    assert 20 < trained.rounds < baselines.MOST_STEPS


def test_tasks_one_after_another(tmp_path, monkeypatch):
    """The memory's unlearning is exact; the table has a line for each method."""
    monkeypatch.setenv("RECOLLECT_CACHE", str(tmp_path))
    monkeypatch.setattr(dense_continual, "LABEL_GROUPS", ((0,), (1,)))

    report = dense_continual.measure_continual(task(20))

    for protocol in report["protocols"].values():
        assert [line["name"] for line in protocol["lines"]] == [
            "memory", "fine-tuned", "fine-tuned with replay", "joint training"
        ]  # fmt: skip
        assert protocol["lines"][0]["same_bits_as_never_taught"]


def test_a_new_modality_leaves_answers_about_the_old_one_as_they_were(tmp_path, monkeypatch):
    """A memory of labels is not touched when numbers come."""
    monkeypatch.setenv("RECOLLECT_CACHE", str(tmp_path))
    known = task(20)
    heights = [np.where(mask > 0, 2.0, 1.0).astype(np.float32) for mask in known.train.truth]
    some = Samples(known.train.pyramids, heights, known.train.names)
    numbers = Task("heights", "bumps", "numbers", (), 255, some, np.array([4]), None, some)

    found = dense_continual.measure_modality(known, numbers)

    assert [line["name"] for line in found["lines"]] == ["memory", "linear heads"]
    assert all(line["labels_before"] == line["labels_after"] > 0.8 for line in found["lines"])
    assert all(line["numbers"] < 0.5 for line in found["lines"])
    assert "A new modality" in "".join(dense_memory_page._modality(found))


def test_a_decoder_is_asked_for_the_labels_that_it_shares():
    """Car, person, bicycle of Pascal VOC; whatever else it says is none of CamVid's labels."""
    scores = np.zeros((2, 2, 21))
    for place, voc in (((0, 0), 7), ((0, 1), 15), ((1, 0), 2), ((1, 1), 9)):
        scores[*place, voc] = 1.0

    labels = dense_decoder.labels_of(scores, (2, 2))

    assert [CAMVID[label] for label in labels.ravel()[:3]] == ["car", "pedestrian", "bicyclist"]
    assert labels[1, 1] == len(CAMVID)


def test_the_page_puts_the_decoder_beside_the_memory():
    """Or alone, where the memory was not measured."""
    part = {"words": "a decoder", "kind": "decoder", "asked": 3, "iou": {"car": 0.5},
            "ours": {"car": 0.75}, "seconds_of_asking": 0.1}  # fmt: skip

    text = page({"parts": {"decoder": part}})

    assert "| its own decoder | 0.500 |\n| memory of CamVid | 0.750 |" in text
    assert "memory of CamVid" not in page({"parts": {"decoder": part | {"ours": None}}})


def test_a_quicker_search_is_chosen_on_held_out_samples_and_put_beside_all_cells(monkeypatch):
    """A search that keeps all cells answers as flat search does."""
    monkeypatch.setattr(dense_query, "SEARCHED", ((60, 60), (50, 50), (2, 1)))
    monkeypatch.setattr(dense_query, "WIDER", (60, 60))
    monkeypatch.setattr(dense_query, "SHARES", (1, 2))
    monkeypatch.setattr(dense_query, "TIMES", 1e-9)
    chosen = {"score": "path", "k": (500, 500), "position": 0.0}

    found = dense_query.measure_query(task(10), chosen)

    *tried, flat = found["tried"]
    assert [each["options"].get("prefilter") for each in tried] == [None, None, None, 4, 4]
    best = max(each["miou"] for each in tried)
    assert found["quick"] == next(each["options"] for each in tried if each["miou"] == best)
    assert flat["processor_seconds"] >= 0
    assert [line["name"] for line in found["lines"]] == ["chosen", "quick", "wide"]
    assert found["flat"]["miou"] == found["lines"][0]["few"]["miou"]
    report = {"parts": {"query": {"words": "Query", "kind": "query", "sets": {"one": found}}}}
    assert "| flat, all " in page(report)


def test_the_quickest_search_is_taken_where_none_is_quick_enough(monkeypatch):
    """The line of the quick search is never empty."""
    monkeypatch.setattr(dense_query, "SEARCHED", ((50, 50), (2, 1)))
    monkeypatch.setattr(dense_query, "SHARES", (1,))
    monkeypatch.setattr(dense_query, "TIMES", 1e9)
    known = task(10)

    quick, tried = dense_query._quick(
        known, {"position": 0.0}, *known.to_choose(), dense_answers.Steps(None)
    )

    least = min(each["processor_seconds"] for each in tried[:-1])
    assert quick["k"] in [tuple(each["options"]["k"]) for each in tried[:-1]
                          if each["processor_seconds"] == least]  # fmt: skip


def test_settings_of_signals_are_chosen_by_leaving_each_record_out(data, tmp_path):
    """Asked about itself a record would find itself; afterwards it is in the memory again."""
    found = dense_memory.TASKS["ecg"](data, tmp_path)
    head = dense_memory.taught(found, {"k": 1, "message_passing": None}, found.train)
    tried = []

    figure, _ = dense_memory._asked(found, head, {}, found.train, tried)

    assert figure < 0.99
    assert len(head.ids_) == RECORDS
    assert tried[0]["figure"] == round(figure, 5)


def test_the_page_shows_what_the_benchmark_measured_and_leaves_out_what_it_did_not():
    """Parts of the benchmark are run one by one."""
    asking = {"samples": 3, "queries": 2, "cells": 30, "flat_100k_cells_over_quick": 21.5}
    asking |= {f"{name}_seconds": 0.5 for name in ("chosen", "quick", "published")}
    asking |= {"flat_100k_cells_seconds": 2.0, "flat_all_cells_seconds": 9.0}
    speed = {
        "cores": 2,
        "asking": asking,
        "capped": {"lines": [{"cap_bytes": 64 << 20, "peak_bytes": 32 << 20}]},
    }

    text = page({"parts": {}}, speed)

    assert "| quick |  | 0.500 | 21.5x |  |" in text
    assert "32 of 64 MiB" in text
    assert "linear head, " not in text
    assert "samples | cells" not in text

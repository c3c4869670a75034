"""Giacomini et al., memorization-based inference (arXiv 2307.07631), on MNIST.

A recurrent attention model is trained, recorded and replayed from its table: accuracy against
bytes and look-ups, as published and improved, beside the network itself, 1-NN on raw pixels and a
small dense network. Every part is kept in a folder when it is done, so that a run can go on later.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InvalidParameter
from recollect.evaluation.datasets import check_there
from recollect.evaluation.earlier import make_folder, read_earlier
from recollect.evaluation.metrics import standard_error
from recollect.evaluation.reproduce.lookup_page import page
from recollect.heads.lookup.costs import check_weights
from recollect.heads.lookup.network import Network
from recollect.heads.lookup.predictor import LookupPredictor
from recollect.heads.lookup.readout import Vote
from recollect.heads.lookup.recipe import Recipe
from recollect.heads.lookup.runs import Runs
from recollect.heads.lookup.table import make_table
from recollect.heads.lookup.teaching import answering, run_images, train_network
from recollect.heads.lookup.tuning import WeightReport, search_weights

STEM = "lookup"
EQUAL = (1.0, 1.0, 1.0)
SHARES = (0.15, 0.3, 0.5, 0.7, 0.9, 1.0)
KS = (10, 20, 40, 80, 160)
# Votes by distance: k while weights are chosen, and how far weights may be apart (published: 100).
TUNING_K, TUNING_FACTOR = 80, 100.0
NOISE = (0.0, 0.5, 1.0, 2.0, 4.0)
PARTS = (
    "networks", "published", "beside", "ladder", "shares", "trees", "noise", "ablations",
    "fallback", "energy", "larger",
)  # fmt: skip
# Images that choose weights: the last of the training file, which no network is trained on.
HELD_OUT = 0.1
CHOOSING = 3000
# Questions of curves; the headline figures use all that were asked for.
CURVE = 2000

Progress = Callable[[int, int], object]


@dataclass(frozen=True, slots=True)
class Digits:
    """Images that are remembered, images that choose, images that are asked about.

    Attributes:
        images: uint8 ``(n, side, side)``: the training file; its last tenth chooses.
        labels: int64 ``(n,)``.
        queries: uint8 ``(q, side, side)``.
        truth: int64 ``(q,)``.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    queries: NDArray[np.uint8]
    truth: NDArray[np.int64]

    @property
    def trained(self) -> int:
        """How many images the networks are trained on."""
        return len(self.images) - int(len(self.images) * HELD_OUT)

    @property
    def choosing(self) -> slice:
        """Images that choose weights and k."""
        return slice(self.trained, min(len(self.images), self.trained + CHOOSING))


@dataclass(frozen=True, slots=True)
class Subject:
    """A network with everything it did."""

    name: str
    network: Network
    runs: Runs
    asked: Runs


def run(
    *,
    data: Path,
    work: Path,
    out: Path | None = None,
    rows: int | None = None,
    queries: int | None = None,
    epochs: int | None = None,
    only: Sequence[str] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure the tables and write them as JSON, as a page, and as pictures.

    Args:
        data: Folder that holds ``mnist/mnist.npz``.
        work: Folder for networks and finished parts; what is there is not measured again.
        out: Folder for ``lookup.json``, ``.md`` and pictures; None writes none.
        rows: Training images, from the top of the file; None means all.
        queries: Test images, from the top of the file; None means all.
        epochs: Rounds of training of every network; None means those of the recipes.
        only: Names of the parts to measure, of ``PARTS``; None means all.
        seed: Of training and searches.
        progress: Called as ``progress(done, total)`` with finished parts.

    Returns:
        Protocol and every figure with its standard error, as plain values for JSON.

    Raises:
        InputError: The data are not there.
        InvalidParameter: ``rows`` or ``queries`` is out of range.
        MissingExtra: A library is not installed.
    """
    from recollect.evaluation.reproduce import lookup_parts as parts

    unknown = sorted(set(only or ()) - set(PARTS))
    if unknown:
        raise InvalidParameter("no such part", expected=", ".join(PARTS), got=", ".join(unknown))
    wanted = [name for name in PARTS if only is None or name in only]
    digits = read_digits(data, rows, queries)
    for folder in (work, *([] if out is None else [out])):
        make_folder(folder)
    lab = Lab(digits, work, epochs, seed, data)
    report: dict[str, Any] = {"protocol": _protocol(digits, seed)}
    for number, name in enumerate(wanted, 1):
        measure: Callable[[Lab], Any] = getattr(parts, name)
        report[name] = lab.kept(name, measure)
        if progress is not None:
            progress(number, len(wanted))
    if out is not None:
        write(out, report, lab)
    return report


class Lab:
    """What the parts share: images, networks, runs; each made once and kept in a folder.

    Args:
        digits: The images.
        work: The folder.
        epochs: Rounds of training, or None for those of the recipes.
        seed: Of training and searches.
        data: Folder of the data sets; None where only digits are needed.
    """

    def __init__(
        self, digits: Digits, work: Path, epochs: int | None, seed: int, data: Path | None = None
    ) -> None:
        self.data = data
        self.digits, self.work, self.epochs, self.seed = digits, work, epochs, seed
        self._subjects: dict[str, Subject] = {}

    def kept(self, name: str, measure: Callable[[Lab], Any]) -> Any:
        """Return a finished part, or measure it and keep it."""
        path = self.work / f"{name}.json"
        if path.is_file():
            return read_earlier(path)
        begun = time.perf_counter()
        found = measure(self)
        whole = {"lines": found, "seconds": round(time.perf_counter() - begun, 1)}
        path.write_text(json.dumps(whole, indent=1), encoding="utf-8")
        return whole

    def subject(
        self, name: str, recipe: Recipe, *, glimpses: int = 5, bits: tuple[int, int] = (2, 1)
    ) -> Subject:
        """Return a trained network with its runs over all images and all questions."""
        if name not in self._subjects:
            network = self._network(name, recipe, glimpses, bits)
            runs = self._runs(f"{name}.runs", network, self.digits.images)
            asked = self._runs(f"{name}.asked", network, self.digits.queries)
            self._subjects[name] = Subject(name, network, runs, asked)
        return self._subjects[name]

    def _runs(self, name: str, network: Network, images: NDArray[Any]) -> Runs:
        """Return what a network did with images; recorded once."""
        path = self.work / f"{name}.npz"
        if not path.is_file():
            made = run_images(network, images)
            np.savez(
                path, fingerprint=network.fingerprint, ids=made.ids, keys=made.keys,
                states=made.states, answers=made.answers,
            )  # fmt: skip
        with np.load(path, allow_pickle=False) as arrays:
            if str(arrays["fingerprint"]) == network.fingerprint and len(arrays["ids"]) == len(
                images
            ):
                return Runs(*(arrays[part] for part in ("ids", "keys", "states", "answers")))
        path.unlink()
        return self._runs(name, network, images)

    def _network(self, name: str, recipe: Recipe, glimpses: int, bits: tuple[int, int]) -> Network:
        path = self.work / f"{name}.safetensors"
        if path.is_file():
            return Network.load(path)
        digits = self.digits
        how = recipe if self.epochs is None else replace(recipe, epochs=self.epochs)
        network = train_network(
            digits.images[: digits.trained], digits.labels[: digits.trained], glimpses=glimpses,
            bits=bits, recipe=how, seed=self.seed, checkpoint=self.work / f"{name}.checkpoint",
        )  # fmt: skip
        network.save(path)
        return network

    def predictor(
        self,
        subject: Subject,
        *,
        upto: int | None = None,
        per_step: bool = True,
        labels: bool = True,
        weights: tuple[float, float, float] = EQUAL,
        k: int = 1,
        beam: int | None = None,
        vote: Vote = "last",
    ) -> LookupPredictor:
        """Return the table of the first images of a subject."""
        count = len(subject.runs) if upto is None else upto
        runs = subject.runs.take(slice(0, count))
        names, codes = np.unique(self.digits.labels, return_inverse=True)
        made = make_table(answering(runs, codes[:count] if labels else None), per_step=per_step)
        classes = names.tolist() if labels else subject.network.labels
        return LookupPredictor(subject.network.layout, made, classes, weights, k, beam, vote=vote)

    def tuned(
        self, subject: Subject, *, per_step: bool, labels: bool, k: int, vote: Vote = "last"
    ) -> WeightReport:
        """Choose weights on the images set aside, with the table of the others; kept."""
        stem = f"weights-{subject.name}-{'step' if per_step else 'one'}-k{k}-{vote}"
        path = self.work / f"{stem}.json"
        if path.is_file():
            whole = read_earlier(path)
            trace = tuple((check_weights(w), float(s)) for w, s in whole["trace"])
            return WeightReport(
                check_weights(whole["weights"]), whole["score"], whole["unweighted"], trace
            )
        digits = self.digits
        plain = self.predictor(
            subject, upto=digits.trained, per_step=per_step, labels=labels, k=k, vote=vote
        )
        held, truth = digits.images[digits.choosing], digits.labels[digits.choosing]
        # The search is seeded and asks the same again: what it was told before is kept.
        known = self.work / f"{stem}.scores"
        told: dict[str, float] = {}
        if known.is_file():
            told = read_earlier(known)

        def score(weights: tuple[float, float, float]) -> float:
            """Accuracy on images held out of the table: the questions choose nothing."""
            if str(weights) not in told:
                told[str(weights)] = accuracy(replace(plain, weights=weights), held, truth)
                known.write_text(json.dumps(told), encoding="utf-8")
            return float(told[str(weights)])

        factor = TUNING_FACTOR if vote == "distance" else 16.0
        report = search_weights(score, seed=self.seed, factor=factor)
        path.write_text(
            json.dumps(
                {"weights": report.weights, "score": report.score,
                 "unweighted": report.unweighted, "trace": report.trace}
            ),
            encoding="utf-8",
        )  # fmt: skip
        return report


def accuracy(predictor: LookupPredictor, images: NDArray[Any], truth: NDArray[Any]) -> float:
    """Return the share of images that a table answers right."""
    return float((predictor.predict(images) == truth).mean())


def figure(right: float, asked: int) -> dict[str, float]:
    """Return an accuracy with its binomial standard error, rounded for the report."""
    return {"accuracy": round(right, 5), "standard_error": round(standard_error(right, asked), 5)}


def read_digits(data: Path, rows: int | None, queries: int | None) -> Digits:
    """Read MNIST.

    Raises:
        InputError: It is not there.
        InvalidParameter: More images are asked for than there are, or too few.
    """
    path = Path(data) / "mnist" / "mnist.npz"
    check_there(path, "the images of MNIST", "RECOLLECT_DATA")
    with np.load(path, allow_pickle=False) as arrays:
        names = ("x_train", "y_train", "x_test", "y_test")
        images, labels, asked, truth = (arrays[name] for name in names)
    count = len(images) if rows is None else rows
    questions = len(asked) if queries is None else queries
    if not (100 <= count <= len(images) and 1 <= questions <= len(asked)):
        raise InvalidParameter(
            "rows or queries are out of range",
            expected=f"100 to {len(images)} rows, 1 to {len(asked)} queries",
            got=f"{count} and {questions}",
        )
    return Digits(
        images[:count], labels[:count].astype(np.int64), asked[:questions],
        truth[:questions].astype(np.int64),
    )  # fmt: skip


def _protocol(digits: Digits, seed: int) -> dict[str, Any]:
    from recollect import __version__

    return {
        "data": "MNIST",
        "rows": len(digits.images),
        "trained": digits.trained,
        "choosing": digits.choosing.stop - digits.choosing.start,
        "queries": len(digits.queries),
        "curve": min(CURVE, len(digits.queries)),
        "seed": seed,
        "recollect": __version__,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "standard_error": "binomial, over the questions",
    }


def write(out: Path, report: dict[str, Any], lab: Lab) -> None:
    """Write report, page and pictures."""
    from recollect.evaluation.reproduce.lookup_pictures import draw

    text = json.dumps(report, indent=2, ensure_ascii=False)
    (out / f"{STEM}.json").write_text(text + "\n", encoding="utf-8")
    (out / f"{STEM}.md").write_text(page(report), encoding="utf-8")
    draw(out, report, lab)

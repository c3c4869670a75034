"""The parts of the lookup reproduction, each measured on its own."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recollect.evaluation.earlier import read_earlier
from recollect.evaluation.reproduce.lookup import (
    CURVE,
    EQUAL,
    KS,
    NOISE,
    SHARES,
    TUNING_K,
    Lab,
    Subject,
    accuracy,
    figure,
)
from recollect.evaluation.reproduce.lookup_choices import CHOSEN, WAYS
from recollect.evaluation.reproduce.lookup_larger import larger
from recollect.heads.lookup.energy import estimate_lookup, estimate_network
from recollect.heads.lookup.predictor import LookupPredictor
from recollect.heads.lookup.recipe import Recipe
from recollect.heads.lookup.search import Found, Search
from recollect.heads.lookup.words import coder_of

__all__ = [
    "ablations", "beside", "energy", "fallback", "ladder", "larger", "networks", "noise",
    "published", "shares", "trees",
]  # fmt: skip

if TYPE_CHECKING:
    from recollect.heads.lookup.layout import Layout

# Shares of which the tree is grown too.
GROWN = (0.5, 1.0)
# Weights of tables whose weights nobody chose.
_PLAIN = (3.0, 0.1, 0.3)
# Rounds of training of the networks of the ablations, and images they see.
_SHORT, _FEW, _BATCH = 6, 6000, 64
FLOAT_EPOCHS, PUBLISHED_EPOCHS = 30, 40


def improved(lab: Lab) -> Subject:
    """The network trained for its table."""
    return lab.subject("improved", Recipe())


def as_published(lab: Lab) -> Subject:
    """The network trained as published: states are rounded only for the table."""
    return lab.subject("published", Recipe.published(epochs=PUBLISHED_EPOCHS))


def floats(lab: Lab) -> Subject:
    """The improved network without any rounding: what a recurrent attention model can do."""
    recipe = replace(Recipe(), flips=0.0, jitter=0.0, rehearsal=0.0, epochs=FLOAT_EPOCHS)
    return lab.subject("floats", recipe, bits=(0, 0))


def chosen(lab: Lab, subject: Subject) -> dict[str, Any]:
    """Weights of the vote by distance, then its k, of all images set aside; ties to fewer rows."""
    k, digits = TUNING_K, lab.digits
    weights = lab.tuned(subject, per_step=True, labels=True, k=k, vote="distance").weights
    path = lab.work / f"k-{subject.name}.json"
    if not path.is_file():
        plain = lab.predictor(subject, upto=digits.trained, weights=weights, vote="distance")
        held, truth = digits.images[digits.trained :], digits.labels[digits.trained :]
        scores = {k: accuracy(replace(plain, k=k), held, truth) for k in KS}
        path.write_text(json.dumps(scores), encoding="utf-8")
    scores = {int(k): score for k, score in read_earlier(path).items()}
    return {"weights": weights, "k": max(scores, key=lambda k: scores[k]), "vote": "distance"}


def networks(lab: Lab) -> list[dict[str, Any]]:
    """Accuracy of the networks themselves, step by step."""
    return [
        _network(lab, floats(lab), "nothing rounded"),
        _network(lab, improved(lab), "glimpse 2 bits, state 1 bit, rounded during training"),
    ]


def _network(lab: Lab, subject: Subject, words: str) -> dict[str, Any]:
    right = (subject.asked.answers == lab.digits.truth[:, None]).mean(axis=0)
    return {
        "name": subject.name,
        "words": words,
        "by_step": right.round(5).tolist(),
        "multiplications": subject.network.multiplications(),
        **figure(float(right[-1]), len(lab.digits.truth)),
    }


def published(lab: Lab) -> list[dict[str, Any]]:
    """The published recipe: network, table, and the table with weights chosen honestly."""
    subject = as_published(lab)
    asked, truth = lab.digits.queries, lab.digits.truth
    network = _network(lab, subject, "glimpse 2 bits, state 1 bit, rounded after training")
    tuned = lab.tuned(subject, per_step=False, labels=False, k=1).weights
    lines = [{"name": "network", **figure(network["accuracy"], len(lab.digits.truth))}]
    for words, weights in (("table", EQUAL), ("table, weights chosen", tuned)):
        made = lab.predictor(subject, per_step=False, labels=False, weights=weights)
        lines.append({"name": words, **figure(accuracy(made, asked, truth), len(truth))})
    return lines


def beside(lab: Lab) -> list[dict[str, Any]]:
    """1-NN on raw pixels, at 8 and at 2 bits, and a small dense network."""
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier

    digits = lab.digits
    rows, asked = (x.reshape(len(x), -1) for x in (digits.images, digits.queries))
    lines = []
    for bits in (8, 2):
        shift = 8 - bits
        knn = KNeighborsClassifier(1, algorithm="brute")
        knn.fit((rows >> shift).astype(np.float32), digits.labels)
        right = float((knn.predict((asked >> shift).astype(np.float32)) == digits.truth).mean())
        lines.append(
            {
                "name": f"1-NN on raw pixels, {bits} bits", "bytes": rows.size * bits // 8,
                **figure(right, len(asked)),
            }
        )  # fmt: skip
    mlp = MLPClassifier((256, 128), max_iter=8, batch_size=256, random_state=lab.seed)
    with np.errstate(all="ignore"):
        _quietly(mlp, (rows / 255).astype(np.float32), digits.labels)
    right = float((mlp.predict((asked / 255).astype(np.float32)) == digits.truth).mean())
    weights = sum(block.size for block in mlp.coefs_)
    lines.append(
        {"name": "dense network 784-256-128-10", "bytes": weights, **figure(right, len(asked))}
    )
    return lines


def _quietly(model: Any, rows: NDArray[Any], labels: NDArray[Any]) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # eight rounds are enough here; it says they are few
        model.fit(rows, labels)


def ladder(lab: Lab) -> list[dict[str, Any]]:
    """From the published reading of the table to the improved one, one change at a time."""
    subject = improved(lab)
    first = lab.tuned(subject, per_step=True, labels=True, k=1).weights
    rungs: list[tuple[str, dict[str, Any]]] = [
        ("one table, as published", {"per_step": False, "labels": False}),
        ("a table per step", {"labels": False}),
        ("… answers with labels", {}),
        ("… weights chosen on images set aside", {"weights": first}),
        ("… five rows vote at the last look", {"weights": first, "k": 5}),
        ("… at every look, by distance; weights and k chosen anew", chosen(lab, subject)),
    ]
    lines = []
    for words, options in rungs:
        made = lab.predictor(subject, **options)
        last = words == rungs[-1][0]
        asked, truth = (lab.digits.queries, lab.digits.truth) if last else _curve(lab)
        bits = made.layout.key_bits + made.layout.value_bits
        lines.append(
            {
                "name": words, "rows": len(made.table), "bytes": len(made.table) * bits // 8,
                "weights": [round(w, 3) for w in made.weights], "k": made.k,
                "questions": len(truth), **figure(accuracy(made, asked, truth), len(truth)),
            }
        )  # fmt: skip
    return lines


def final(lab: Lab, *, upto: int | None = None) -> LookupPredictor:
    """The improved table with the weights and the k that were chosen; all of it has its tree."""
    subject = improved(lab)
    made = lab.predictor(subject, upto=upto, **chosen(lab, subject))
    if upto is not None:
        return made
    path = lab.work / f"tree-{made.growth.branches}-{made.growth.leaf}.table"
    if path.is_file():
        kept = LookupPredictor.load(path)
        if np.array_equal(kept.table.keys, made.table.keys) and kept.weights == made.weights:
            return replace(made, trees=kept.trees)
    replace(made, beam=1).save(path)
    return replace(made, trees=LookupPredictor.load(path).trees)


def _curve(lab: Lab) -> tuple[NDArray[Any], NDArray[Any]]:
    return lab.digits.queries[:CURVE], lab.digits.truth[:CURVE]


def shares(lab: Lab) -> list[dict[str, Any]]:
    """Accuracy against the share of the training images that are recorded."""
    return [lab.kept(f"share-{share:g}", partial(_share, share=share))["lines"] for share in SHARES]


def _share(lab: Lab, share: float) -> dict[str, Any]:
    asked, truth = _curve(lab)
    first: dict[str, Any] = {"per_step": False, "labels": False}
    tuned = lab.tuned(as_published(lab), **first, k=1).weights
    count = int(len(lab.digits.images) * share)
    best = final(lab, upto=None if share == 1 else count)
    made = {
        "published, equal": lab.predictor(as_published(lab), upto=count, **first),
        "published, chosen": lab.predictor(as_published(lab), upto=count, weights=tuned, **first),
        "ours, equal, one row": lab.predictor(improved(lab), upto=count),
        "ours": best,
    }
    if share in GROWN:
        made[f"ours, tree of up to {CHOSEN[0]} ways"] = _by_tree(best, *CHOSEN)
    return {"share": share, "bytes": _bytes(best)} | {
        name: figure(accuracy(one, asked, truth), len(truth)) for name, one in made.items()
    }


def _bytes(made: LookupPredictor) -> int:
    """Return what the rows take, packed."""
    return len(made.table) * (made.layout.key_bits + made.layout.value_bits) // 8


def trees(lab: Lab) -> list[dict[str, Any]]:
    """Flat and by tree: accuracy against comparisons and bytes read."""
    flat = final(lab)
    return [_way(lab, made) for made in (flat, *(_by_tree(flat, *ways) for ways in WAYS))]


def _by_tree(flat: LookupPredictor, beam: int, slack: int | None) -> LookupPredictor:
    return replace(flat, beam=beam, slack=slack)


def _way(lab: Lab, made: LookupPredictor) -> dict[str, Any]:
    asked, truth = lab.digits.queries, lab.digits.truth
    # The way through the table, and what is compared on it, does not depend on how many rows vote.
    compared = float(replace(made, k=1).trail(asked).comparisons.mean())
    return {
        "beam": made.beam, "slack": made.slack, "comparisons": round(compared, 1),
        "bytes_read": round(compared * 5 * made.layout.key_bits / 8),
        **figure(accuracy(made, asked, truth), len(truth)),
    }  # fmt: skip


def noise(lab: Lab) -> list[dict[str, Any]]:
    """Gaussian noise on the three group distances, as the paper adds it."""
    asked, truth = _curve(lab)
    asked, truth = asked[: CURVE // 8], truth[: CURVE // 8]
    made = final(lab)
    lines = []
    for deviation in NOISE:
        noisy = _Noisy(made, deviation, np.random.default_rng(lab.seed))
        changed = replace(made)
        changed.__dict__["search"] = noisy
        right = accuracy(changed, asked, truth)
        lines.append({"deviation": deviation, **figure(right, len(truth))})
    return lines


class _Noisy(Search):
    """Every row's distance with noise; slow, for the table of noise alone."""

    def __init__(
        self, made: LookupPredictor, deviation: float, random: np.random.Generator
    ) -> None:
        self._table, self._deviation, self._random = made.table, deviation, random
        a, b, c = made.weights
        self._costs, self._coder = made.costs, coder_of(made.costs, made.table.keys)
        # Independent noise on three weighted terms is one noise of this size on their mean.
        self._size = deviation * float(np.sqrt(a * a + b * b + c * c)) / (a + b + c)
        self._exact = made.search

    def nearest(self, queries: NDArray[Any], step: int, k: int = 1) -> Found:
        """Return the k rows that seem nearest."""
        if not self._deviation:
            return self._exact.nearest(queries, step, k)
        part = self._table.part(step)
        keys = self._coder.write(self._table.keys[part])
        rows, near = [], []
        for query in self._coder.write(queries):
            distance = self._coder.between(keys, query) * self._costs.unit
            distance += self._random.normal(0.0, self._size, len(distance))
            order = np.argpartition(distance, k)[:k]
            order = order[np.argsort(distance[order])]
            rows.append(order + part.start)
            near.append(np.rint(distance[order] / self._costs.unit))
        count = np.full(len(queries), part.stop - part.start)
        return Found(np.array(rows), np.array(near).astype(np.int64), count)


def ablations(lab: Lab) -> list[dict[str, Any]]:
    """Glimpses, patch and bits, around the improved layout; short training on fewer images."""
    from recollect.evaluation.reproduce.lookup import Digits

    digits = lab.digits
    few = Digits(
        digits.images[:_FEW], digits.labels[:_FEW], digits.queries[:CURVE], digits.truth[:CURVE]
    )
    small = Lab(few, lab.work, _SHORT, lab.seed)
    base = replace(Recipe(), batch=_BATCH)
    tried: list[tuple[str, Recipe, int, tuple[int, int]]] = [
        ("5 glimpses, 4 x 4 cells, 2 and 1 bits", base, 5, (2, 1)),
        ("3 glimpses", base, 3, (2, 1)),
        ("8 glimpses", base, 8, (2, 1)),
        ("3 x 3 cells", replace(base, glimpse=3), 5, (2, 1)),
        ("5 x 5 cells", replace(base, glimpse=5), 5, (2, 1)),
        ("glimpse 1 bit", base, 5, (1, 1)),
        ("glimpse 4 bits", base, 5, (4, 1)),
        ("state 2 bits", base, 5, (2, 2)),
        ("powers of four, as published", replace(base, cells=None, bright=1.0), 5, (2, 1)),
    ]
    lines = []
    for number, (words, recipe, glimpses, bits) in enumerate(tried):
        subject = small.subject(f"ablation-{number}", recipe, glimpses=glimpses, bits=bits)
        made = small.predictor(subject, weights=_PLAIN, k=20, vote="distance")
        network = float((subject.asked.answers[:, -1] == few.truth).mean())
        lines.append(
            {
                "name": words, "key_bits": made.layout.key_bits, "network": round(network, 5),
                **figure(accuracy(made, few.queries, few.truth), len(few.truth)),
            }
        )  # fmt: skip
    return lines


def fallback(lab: Lab) -> list[dict[str, Any]]:
    """Let the network answer what is farthest: share of fall-backs against accuracy."""
    made = final(lab)
    subject = improved(lab)
    asked, truth = _curve(lab)
    trail = made.trail(asked)
    distance = trail.distances.max(axis=1) * made.costs.unit
    by_table = made.predict(asked) == truth
    by_network = subject.asked.answers[: len(truth), -1] == truth
    lines = []
    for share in (0.0, 0.05, 0.1, 0.25, 0.5, 1.0):
        limit = np.quantile(distance, 1 - share) if share < 1 else -1.0
        far = distance > limit
        right = float(np.where(far, by_network, by_table).mean())
        lines.append(
            {"share": round(float(far.mean()), 4), "distance": round(float(limit), 3),
             **figure(right, len(truth))}
        )  # fmt: skip
    return lines


def energy(lab: Lab) -> list[dict[str, Any]]:
    """Estimates of flat, tree, the network replaced and the small dense network."""
    subject = improved(lab)
    layout: Layout = subject.network.layout
    table = final(lab)
    asked = lab.digits.queries[:200]
    lines = []
    up_to = f"tree, up to {CHOSEN[0]} ways"
    for words, beam, slack in (
        ("flat", None, None), ("tree, 1 way", 1, None), ("tree, 4 ways", 4, None),
        (up_to, *CHOSEN),
    ):  # fmt: skip
        made = replace(table, beam=beam, slack=slack)
        rows = round(float(made.trail(asked).comparisons.sum(axis=1).mean()))
        depth = 0 if beam is None else sum(tree.depth for tree in made.grown)
        lines.append(_estimate(estimate_lookup(layout, rows, name=words, depth=depth)))
    weights = sum(w.size for w in subject.network.weights.values())
    dense = estimate_network(subject.network.multiplications(), weights, name="the network")
    small = estimate_network(234_752, 234_752, name="dense network 784-256-128-10")
    return [*lines, _estimate(dense), _estimate(small)]


def _estimate(one: Any) -> dict[str, Any]:
    return {
        "name": one.name, "rows": one.rows, "bytes": round(one.bytes_touched),
        "nanojoules": round(one.total, 3), "words": one.lines()[1],
    }  # fmt: skip

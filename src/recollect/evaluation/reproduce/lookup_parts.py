"""The parts of the lookup reproduction, each measured on its own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recollect.evaluation.reproduce.lookup import (
    BEAMS,
    CURVE,
    EQUAL,
    KS,
    NOISE,
    SHARES,
    Lab,
    Subject,
    accuracy,
    figure,
)
from recollect.heads.lookup.energy import estimate_lookup, estimate_network
from recollect.heads.lookup.predictor import LookupPredictor
from recollect.heads.lookup.recipe import Recipe
from recollect.heads.lookup.search import Found, Search

if TYPE_CHECKING:
    from recollect.heads.lookup.layout import Layout

# Rounds of training of the networks of the ablations, and images they see.
_SHORT, _FEW = 4, 20_000
FLOAT_EPOCHS, PUBLISHED_EPOCHS = 12, 12


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


def best_k(lab: Lab, subject: Subject) -> int:
    """Choose k on the images set aside, with the weights of k = 1."""
    weights = lab.tuned(subject, per_step=True, labels=True, k=1).weights
    digits, chosen = lab.digits, lab.digits.choosing
    plain = lab.predictor(subject, upto=digits.trained, weights=weights)
    scores = [
        accuracy(replace(plain, k=k), digits.images[chosen], digits.labels[chosen]) for k in KS
    ]
    return KS[int(np.argmax(scores))]


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
    asked, truth = _curve(lab)
    network = _network(lab, subject, "glimpse 2 bits, state 1 bit, rounded after training")
    chosen = lab.tuned(subject, per_step=False, labels=False, k=1).weights
    lines = [{"name": "network", **figure(network["accuracy"], len(lab.digits.truth))}]
    for words, weights in (("table", EQUAL), ("table, weights chosen", chosen)):
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
    chosen = lab.tuned(subject, per_step=True, labels=True, k=1).weights
    rungs: list[tuple[str, dict[str, Any]]] = [
        ("one table, as published", {"per_step": False, "labels": False}),
        ("a table per step", {"labels": False}),
        ("… answers with labels", {}),
        ("… weights chosen on images set aside", {"weights": chosen}),
        ("… several rows vote at the last step", {"weights": chosen, "k": best_k(lab, subject)}),
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


def final(lab: Lab, **options: Any) -> LookupPredictor:
    """The improved table with the weights and the k that were chosen."""
    subject = improved(lab)
    weights = lab.tuned(subject, per_step=True, labels=True, k=1).weights
    return lab.predictor(subject, weights=weights, **{"k": best_k(lab, subject), **options})


def _curve(lab: Lab) -> tuple[NDArray[Any], NDArray[Any]]:
    return lab.digits.queries[:CURVE], lab.digits.truth[:CURVE]


def shares(lab: Lab) -> list[dict[str, Any]]:
    """Accuracy against the share of the training images that are recorded."""
    asked, truth = _curve(lab)
    lines = []
    for share in SHARES:
        count = int(len(lab.digits.images) * share)
        made = {
            "equal weights, one row": lab.predictor(improved(lab), upto=count),
            "improved": final(lab, upto=count),
        }
        lines.append(
            {"share": share}
            | {name: figure(accuracy(one, asked, truth), len(truth)) for name, one in made.items()}
        )
    return lines


def trees(lab: Lab) -> list[dict[str, Any]]:
    """Flat and by tree: accuracy against comparisons and bytes read."""
    asked, truth = _curve(lab)
    lines = []
    flat = final(lab)
    grown = replace(flat, beam=1).grown
    for beam in (None, *BEAMS):
        made = replace(flat, beam=beam, trees=grown)
        trail = made.trail(asked)
        named = np.asarray(made.classes)[made.votes(trail).argmax(axis=1)]
        right = float((named == truth).mean())
        compared = float(trail.comparisons.mean())
        lines.append(
            {
                "beam": beam, "comparisons": round(compared, 1),
                "bytes_read": round(compared * 5 * made.layout.key_bits / 8),
                **figure(right, len(truth)),
            }
        )  # fmt: skip
    return lines


def noise(lab: Lab) -> list[dict[str, Any]]:
    """Gaussian noise on the three group distances, as the paper adds it."""
    asked, truth = _curve(lab)
    asked, truth = asked[: CURVE // 4], truth[: CURVE // 4]
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
        self._costs = made.costs
        # Independent noise on three weighted terms is one noise of this size on their mean.
        self._size = deviation * float(np.sqrt(a * a + b * b + c * c)) / (a + b + c)
        self._exact = made.search

    def nearest(self, queries: NDArray[Any], step: int, k: int = 1) -> Found:
        """Return the k rows that seem nearest."""
        if not self._deviation:
            return self._exact.nearest(queries, step, k)
        part = self._table.part(step)
        rows, near = [], []
        for query in queries:
            apart = np.abs(self._table.keys[part].astype(np.int16) - query.astype(np.int16))
            distance = apart.astype(np.float32) @ self._costs.columns.astype(np.float32)
            distance = distance * self._costs.unit
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
    base = replace(Recipe(), rehearsal=0.0)
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
        made = small.predictor(subject, weights=(6.0, 1.0, 1.0), k=5)
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
    table = lab.predictor(subject)
    asked = lab.digits.queries[:200]
    lines = []
    for words, beam in (("flat", None), ("tree, 1 way", 1), ("tree, 4 ways", 4)):
        made = replace(table, beam=beam)
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

"""Dense memory by plain loops in float64, after the specification: reference values of any size.

Nothing of the library is used. ``python tests/dense_reference.py FOLDER`` writes files of the
form of the reference folder; the tests make some of their own.
"""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path

import numpy as np

FIXED = {
    "tau": 0.05, "mp_radius": 1, "mp_k": 4, "mp_tau": 0.1, "mp_alpha": 0.5, "mp_tol": 1e-8,
    "mp_max_iter": 200, "mp_step_iters": 5, "nov_radius": 1, "removed_sample": 1,
}  # fmt: skip
SIZES = {
    "1d_four_levels": ([(2,), (5,), (9,), (20,)], (6, 3, 4, 5), (4, 3, 3, 2), 5, 3),
    "2d_odd_ratios": ([(2, 3), (3, 5), (7, 9)], (5, 4, 3), (6, 5, 2), 3, 4),
    "2d_one_level": ([(4, 3)], (6,), (7,), 3, 3),
    "3d_two_levels": ([(2, 1, 2), (3, 2, 5)], (4, 6), (3, 4), 3, 2),
}
"""Name -> sides of each level, widths, matches kept, samples, classes."""


def unit(vector):
    length = np.sqrt((vector * vector).sum())
    return vector / length if length else vector


def nodes(shape):
    return list(product(*map(range, shape)))


def parent(node, fine, coarse):
    return tuple(at * c // f for at, c, f in zip(node, coarse, fine, strict=True))


def around(node, shape, radius):
    steps = product(range(-radius, radius + 1), repeat=len(shape))
    near = [tuple(a + s for a, s in zip(node, step, strict=True)) for step in steps if any(step)]
    return [n for n in near if all(0 <= a < side for a, side in zip(n, shape, strict=True))]


def search(queries, memory, shapes, ks, kept, labelled):
    """Matches of each level: a list of (similarity, sample, node) a query node."""
    found = []
    for level, (shape, k) in enumerate(zip(shapes, ks, strict=True)):
        here = []
        for node in nodes(shape):
            if level:
                above = nodes(shapes[level - 1]).index(parent(node, shape, shapes[level - 1]))
                led = {(s, n) for _, s, n in found[-1][above]}
            best = []
            for sample, other in product(range(len(memory[level])), nodes(shape)):
                if level and (sample, parent(other, shape, shapes[level - 1])) not in led:
                    continue
                if not kept[level][sample][other]:
                    continue
                if level == len(shapes) - 1 and not labelled[sample][other]:
                    continue
                similarity = unit(queries[level][node]) @ unit(memory[level][sample][other])
                best.append((similarity, sample, other))
            best.sort(key=lambda each: (-each[0], each[1], each[2]))
            here.append(best[:k])
        found.append(here)
    return found


def written(found, shapes, ks):
    """Arrays of the matches, padded."""
    arrays = {}
    for level, (here, shape, k) in enumerate(zip(found, shapes, ks, strict=True)):
        order = nodes(shape)
        sample, node = np.full((len(here), k), -1), np.full((len(here), k), -1)
        similarity = np.full((len(here), k), -np.inf)
        for row, best in enumerate(here):
            for rank, (value, s, n) in enumerate(best):
                sample[row, rank], node[row, rank] = s, order.index(n)
                similarity[row, rank] = value
        arrays |= {f"match_sample_l{level}": sample, f"match_node_l{level}": node,
                   f"match_sim_l{level}": similarity}  # fmt: skip
    return arrays


def read(finest, values, tau):
    """Mean of the matches' values, weighed by softmax."""
    rows = []
    for best in finest:
        raised = [np.exp((value - best[0][0]) / tau) for value, *_ in best]
        total = sum(raised)
        mean = sum((w / total * values[s][n] for w, (_, s, n) in zip(raised, best, strict=True)),
                   np.zeros(values.shape[-1]))  # fmt: skip
        rows.append(mean)
    return np.array(rows)


def novelties(features, shape):
    """One minus the mean similarity to the nodes around."""
    found = np.zeros(shape)
    for node in nodes(shape):
        near = around(node, shape, FIXED["nov_radius"])
        values = [unit(features[node]) @ unit(features[other]) for other in near]
        found[node] = 1 - np.mean(values) if values else 0.0
    return found


def keep(sample, shapes, count):
    """Below each kept node of the last whole level the most novel child, level by level."""
    kept = [np.ones(shape, bool) for shape in shapes]
    for level in range(len(shapes) - count, len(shapes)):
        novelty = novelties(sample[level], shapes[level])
        kept[level][...] = False
        for above in nodes(shapes[level - 1]):
            below = [n for n in nodes(shapes[level])
                     if parent(n, shapes[level], shapes[level - 1]) == above]  # fmt: skip
            if kept[level - 1][above] and below:
                kept[level][max(below, key=lambda n: (novelty[n], [-a for a in n]))] = True
    return kept


def pass_messages(start, features, shape):
    """Links, weights, both updates, and how many of the anchored ones were made."""
    order, count = nodes(shape), FIXED["mp_k"]
    idx, weights = np.full((len(order), count), -1), np.zeros((len(order), count))
    for row, node in enumerate(order):
        near = [(unit(features[node]) @ unit(features[n]), order.index(n))
                for n in around(node, shape, FIXED["mp_radius"])]  # fmt: skip
        near = sorted(near, key=lambda each: (-each[0], each[1]))[:count]
        raised = np.exp([(value - near[0][0]) / FIXED["mp_tau"] for value, _ in near])
        idx[row, : len(near)] = [n for _, n in near]
        weights[row, : len(near)] = raised / raised.sum()
    alpha = FIXED["mp_alpha"]

    def mean(state):
        taken = state[np.maximum(idx, 0)] * weights[..., None]
        return taken.sum(axis=1)

    anchored, updates, change = start, 0, np.inf
    while updates < FIXED["mp_max_iter"] and change >= FIXED["mp_tol"]:
        following = (1 - alpha) * start + alpha * mean(anchored)
        change, anchored, updates = abs(following - anchored).max(), following, updates + 1
    step = start
    for _ in range(FIXED["mp_step_iters"]):
        step = (1 - alpha) * step + alpha * mean(step)
    return {"idx": idx, "w": weights, "anchored": anchored, "step": step, "anchored_iters": updates}


def make_case(shapes, widths, ks, samples, classes, *, seed=0, queries=2):
    """All arrays of one file."""
    rng = np.random.default_rng(seed)
    finest = shapes[-1]
    memory = [rng.normal(size=(samples, *s, w)) for s, w in zip(shapes, widths, strict=True)]
    asked = [rng.normal(size=(queries, *s, w)) for s, w in zip(shapes, widths, strict=True)]
    full = rng.integers(0, classes, (samples, *finest))
    labels = np.where(rng.random(full.shape) < 0.15, -1, full)
    numbers = rng.normal(size=(*full.shape, 1))
    case = {name: np.array(value) for name, value in FIXED.items()}
    case |= {"ks": np.array(ks), "n_classes": np.array(classes), "n_levels": np.array(len(shapes))}
    case |= {"mem_label_cls": labels, "mem_label_cls_full": full, "mem_label_reg": numbers}
    case |= {f"mem_feat_l{at}": level for at, level in enumerate(memory)}
    case |= {f"qry_feat_l{at}": level for at, level in enumerate(asked)}
    one_hot = np.eye(classes)[full]
    whole = [np.ones((samples, *shape), bool) for shape in shapes]
    others = np.arange(samples) != FIXED["removed_sample"]
    ways = {
        "dense": (memory, whole, labels >= 0, one_hot, numbers),
        "removed": ([level[others] for level in memory], [level[others] for level in whole],
                    labels[others] >= 0, one_hot[others], numbers[others]),
    }  # fmt: skip
    for count in range(1, len(shapes)):
        each = [keep([level[at] for level in memory], shapes, count) for at in range(samples)]
        kept = [np.stack([one[level] for one in each]) for level in range(len(shapes))]
        case |= {f"sparse{count}_kept_l{at}": level for at, level in enumerate(kept)}
        ways[f"sparse{count}"] = (memory, kept, np.ones_like(labels, bool), one_hot, numbers)
    for prefix, (levels, kept, labelled, shares, values) in ways.items():
        answers = []
        for at in range(queries):
            found = search([level[at] for level in asked], levels, shapes, ks, kept, labelled)
            answers.append(written(found, shapes, ks) | {
                "prob": read(found[-1], shares, FIXED["tau"]),
                "reg": read(found[-1], values, FIXED["tau"]),
            })  # fmt: skip
        case |= {
            f"{prefix}_{name}": np.stack([one[name] for one in answers]) for name in answers[0]
        }
    case |= {
        f"novelty_l{at}": np.stack([novelties(sample, shape) for sample in level])
        for at, (level, shape) in enumerate(zip(memory, shapes, strict=True))
    }
    passed = [pass_messages(case["dense_prob"][at], asked[-1][at], finest) for at in range(queries)]
    return case | {f"mp_{name}": np.stack([one[name] for one in passed]) for name in passed[0]}


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, size in SIZES.items():
        np.savez(folder / f"parmesan_{name}.npz", **make_case(*size))


if __name__ == "__main__":
    main()

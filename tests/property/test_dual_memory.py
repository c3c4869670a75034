"""Whatever was taught, observed and forgotten, in whatever order: what is left decides."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings, strategies

from recollect import DualMemoryClassifier

NAMES = ["a", "b", "c"]
ASKED = np.random.default_rng(8).normal(size=(9, 4))
steps = strategies.lists(
    strategies.tuples(
        strategies.sampled_from(["observe", "teach", "forget seen", "forget shot"]),
        strategies.integers(0, 2**16),
    ),
    max_size=9,
)
options = strategies.fixed_dictionaries(
    {
        "mode": strategies.sampled_from(["published", "robust"]),
        "decay": strategies.sampled_from([0.0, 0.05]),
        "trust": strategies.sampled_from([0.0, 1.0]),
        "negative": strategies.sampled_from([0.0, 2.0]),
        "memory_length": strategies.integers(1, 3),
    }
)


def made(chosen):
    text = np.random.default_rng(1).normal(size=(3, 4))
    return DualMemoryClassifier(text, NAMES, scale=4.0, **chosen).fit()


@settings(max_examples=25)
@given(options, steps)
def test_the_rows_that_are_left_decide_every_answer(chosen, taken):
    """Teaching, observing and forgetting in any order equals teaching and observing the rest."""
    head, shots, seen = made(chosen), {}, {}
    for verb, seed in taken:
        random = np.random.default_rng(seed)
        if verb == "observe":
            pictures = random.normal(size=(random.integers(1, 5), 4))
            seen |= dict(zip(head.observe(pictures).ids.tolist(), pictures, strict=True))
        elif verb == "teach":
            picture, name = random.normal(size=4), NAMES[random.integers(3)]
            head.partial_fit(picture[None], [name])
            shots[int(head.ids_[-1])] = (picture, name)
        else:
            rows = seen if verb == "forget seen" else shots
            for row in list(rows)[: random.integers(0, 3)]:
                head.forget([row])
                del rows[row]

    fresh = made(chosen)
    if shots:
        fresh.partial_fit([x for x, _ in shots.values()], [name for _, name in shots.values()])
    if seen:
        fresh.observe(np.array(list(seen.values())))
    assert np.array_equal(head.predict_proba(ASKED), fresh.predict_proba(ASKED))
    assert head.slot_ids().counts.tolist() == fresh.slot_ids().counts.tolist()

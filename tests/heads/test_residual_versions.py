"""An answer is of one version of the rows, whoever writes while it is made."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from recollect import ResidualMemoryClassifier, ResidualMemoryRegressor

KEYS = np.array([[0.0], [10.0]])
HALF = np.zeros((2, 2))
ASKED = {"embedding": np.array([[1.0], [9.0]]), "outputs": HALF}


def classifier():
    return ResidualMemoryClassifier(len, k=3).fit(None, [0, 1], embedding=KEYS, outputs=HALF)


def regressor():
    return ResidualMemoryRegressor(len, k=3).fit(None, [0, 1], embedding=KEYS, outputs=[5, 5])


def teach_more(head):
    """A third row, which also has a class of its own."""
    outputs = HALF[:1] if isinstance(head, ResidualMemoryClassifier) else [5]
    return head.partial_fit(None, [2], embedding=[[5.0]], outputs=outputs)


def scores(head):
    if isinstance(head, ResidualMemoryRegressor):
        return head.predict(None, embedding=ASKED["embedding"], outputs=[5, 5])
    return head.predict_proba(None, output="score", **ASKED)


def shares(head):
    given = ASKED if isinstance(head, ResidualMemoryClassifier) else ASKED | {"outputs": [5, 5]}
    return [
        (why.base, why.prediction, *((row.id, row.contribution) for row in why.evidence))
        for why in head.explain(None, **given)
    ]


def width(head):
    return head.sigma_


def meddled(head, name, write):
    """Let somebody write right behind the head's first call of this verb."""
    original, memory = getattr(head.memory_, name), head.memory_

    def called(*given, **options):
        answer = original(*given, **options)
        if name in memory.__dict__:
            del memory.__dict__[name]
            write()
        return answer

    memory.__dict__[name] = called


@pytest.mark.parametrize("verb", ["search", "rows"])
@pytest.mark.parametrize("ask", [scores, shares, width])
@pytest.mark.parametrize("make", [classifier, regressor])
def test_a_write_in_the_middle_gives_the_answer_after_it(make, ask, verb):
    """Rows of one version and classes of the next used to be added up, or to differ in length."""
    head, other = make(), make()
    after = ask(teach_more(other))
    meddled(head, verb, lambda: teach_more(head))

    answer = ask(head)

    np.testing.assert_equal(answer, after)


def test_a_row_that_goes_in_the_middle_is_not_in_the_answer():
    """Not even as a key that is looked up in vain."""
    head, never = teach_more(classifier()), classifier()
    meddled(head, "search", lambda: head.memory_.remove([2]))

    np.testing.assert_equal(shares(head), shares(never))


def test_tuning_beside_a_writer_sees_one_version():
    """Neighbors, labels and keys were read one after the other."""
    head, other = teach_more(classifier()), teach_more(classifier())
    meddled(head, "keys", lambda: teach_more(head))
    grid = {"k": [1, 2], "sigma": [1.0], "temperature": [1.0], "strength": [1.0]}

    with pytest.warns(UserWarning, match="turned off"):
        report = head.tune(grid=grid)
    with pytest.warns(UserWarning, match="turned off"):
        expected = teach_more(other).tune(grid=grid)
    assert report == expected


def test_answers_beside_a_busy_writer_are_those_of_a_version():
    """A thread teaches and forgets one row again and again."""
    head = classifier()
    without, beside = scores(head), scores(teach_more(classifier()))
    done = threading.Event()

    def write():
        while not done.is_set():
            head.memory_.remove(head.memory_.add(
                [[5.0]], [[0.0, 0.0]], metadata={"truth": 2}
            ))  # fmt: skip

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = [scores(head) for _ in range(100)]
    finally:
        done.set()
        writer.join()

    assert all(np.array_equal(one, without) or np.array_equal(one, beside) for one in seen)

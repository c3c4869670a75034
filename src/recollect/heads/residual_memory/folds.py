"""Out-of-fold outputs: each row is asked of a copy of the base that was trained without it."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.utils import _safe_indexing

from recollect.errors import InvalidParameter
from recollect.heads.inputs import in_our_words
from recollect.heads.residual_memory.bases import LEAST, ask, wrap
from recollect.types import Doubles

SEED = 0


def logits_out_of_fold(base: Any, X: Any, y: Any, folds: int) -> Doubles:
    """Return logits of every row from a base that did not see it.

    Args:
        base: A fitted scikit-learn classifier; copies of it are trained.
        X: Its training rows.
        y: Their labels.
        folds: How many copies; each class is spread evenly over the folds.

    Returns:
        float64 ``(rows, classes)``, in the order of the base's classes. A class that a copy did
        not see has a logit of log(1e-30).

    Raises:
        InvalidParameter: The base cannot be copied and trained, or a fold would be empty.
    """
    _require_estimator(base)
    known = np.asarray(base.classes_)
    with in_our_words():
        parts = list(StratifiedKFold(folds, shuffle=True, random_state=SEED).split(X, y))
    logits = np.full((len(np.asarray(y)), len(known)), np.log(LEAST))
    for train, asked in parts:
        copy = clone(base)
        with in_our_words():
            copy.fit(_safe_indexing(X, train), _safe_indexing(y, train))
        wrapped = wrap(copy, None, "classify")
        _, outputs = ask(wrapped, _safe_indexing(X, asked), embedding=False, outputs=True)
        columns = np.searchsorted(known, copy.classes_)
        logits[np.ix_(asked, columns)] = outputs
    return logits


def numbers_out_of_fold(base: Any, X: Any, y: Any, folds: int) -> Doubles:
    """Return predictions of every row from a regressor that did not see it.

    Arguments and errors as in :func:`logits_out_of_fold`.
    """
    _require_estimator(base)
    predicted = np.zeros(np.shape(y))
    with in_our_words():
        parts = list(KFold(folds, shuffle=True, random_state=SEED).split(X))
    for train, asked in parts:
        copy = clone(base)
        with in_our_words():
            copy.fit(_safe_indexing(X, train), _safe_indexing(y, train))
        wrapped = wrap(copy, None, "regress")
        _, outputs = ask(wrapped, _safe_indexing(X, asked), embedding=False, outputs=True)
        predicted[asked] = outputs.reshape(predicted[asked].shape)
    return predicted


def _require_estimator(base: Any) -> None:
    if not (hasattr(base, "get_params") and hasattr(base, "fit")):
        raise InvalidParameter(
            "out-of-fold residuals need bases trained on a part of the rows",
            expected="a scikit-learn estimator, whose copies can be trained",
            got=type(base).__name__,
            remedy="Pass outputs= of bases that did not see the row they are asked about.",
        )

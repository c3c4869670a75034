"""What may enter an estimator: features, labels and numbers, judged once.

scikit-learn's own checks are used where there are any; what they raise leaves as an error of this
library with the same words, so that both kinds of caller recognise it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.validation import validate_data

from recollect.errors import (
    DimensionMismatch,
    EmptyBatch,
    EmptyMemory,
    InputError,
    InvalidLabel,
    InvalidType,
    LengthMismatch,
    NonFinite,
    RecollectError,
)
from recollect.memory import checks, row_checks
from recollect.memory.schema import Configuration
from recollect.types import Doubles

# What scikit-learn says -> what it is here, and what to do about it. The first that fits counts.
_MEANINGS: tuple[tuple[str, type[InputError], str], ...] = (
    ("inconsistent numbers of samples", LengthMismatch, "Give one target for each row of X."),
    ("NaN", NonFinite, "Remove or impute missing values first."),
    ("infinity", NonFinite, "Remove or clip infinite values first."),
    ("0 sample(s)", EmptyBatch, "Leave the call out when there is nothing to do."),
    ("0 feature(s)", DimensionMismatch, "Pass features of shape (rows, dim), dim at least 1."),
    ("features, but", DimensionMismatch, "Use the features the estimator was taught with."),
    ("array=[].", EmptyBatch, "Leave the call out when there is nothing to do."),
    ("Expected 2D array", DimensionMismatch, "Pass features of shape (rows, dim)."),
    ("feature names", DimensionMismatch, "Use the features the estimator was taught with."),
)


class NotFitted(EmptyMemory, NotFittedError):
    """The estimator was asked before it was taught; also scikit-learn's NotFittedError."""


@contextmanager
def in_our_words() -> Iterator[None]:
    """Let what scikit-learn raises about an input leave as an error of this library."""
    try:
        yield
    except RecollectError:
        raise
    except TypeError as error:
        raise InvalidType(str(error), remedy="Convert it to a plain array first.") from error
    except ValueError as error:
        said = str(error)
        for words, kind, remedy in _MEANINGS:
            if words not in said:
                continue
            if kind is NonFinite:  # what follows recommends another library's estimators
                first = said.partition("\n")[0].rstrip(".")
                raise NonFinite(
                    first, expected="finite numbers", got=words, remedy=remedy
                ) from error
            raise kind(said, remedy=remedy) from error
        raise InputError(said, remedy="Pass plain numbers, one row for each item.") from error


def check_features(estimator: BaseEstimator, X: Any, *, reset: bool) -> NDArray[Any]:
    """Return float32 or float64 features ``(rows, dim)``; ``reset`` learns width and names."""
    if X is None:
        raise InvalidType(
            "there are no features", expected="an array (rows, dim)", got="None",
            remedy="Pass one row of numbers for each item.",
        )  # fmt: skip
    if not reset and _plain(estimator, X):
        return np.asarray(X)  # the memory itself judges width and values
    with in_our_words():
        kinds = [np.float64, np.float32]
        return np.asarray(validate_data(estimator, X, reset=reset, dtype=kinds))


def _plain(estimator: BaseEstimator, X: Any) -> bool:
    return (
        type(X) is np.ndarray
        and X.dtype in (np.float32, np.float64)
        and X.ndim == 2
        and len(X) > 0
        and X.shape[1] == estimator.n_features_in_
        and not hasattr(estimator, "feature_names_in_")
    )


def check_first_rows(keys: NDArray[Any], columns: Mapping[str, Any], config: Configuration) -> None:
    """Refuse what a new memory would refuse, before there is one.

    Raises:
        InputError: Something cannot be stored.
    """
    rows = len(checks.check_keys(keys, config))
    if columns["ids"] is not None:
        checks.check_ids(columns["ids"], rows)
    row_checks.check_weights(columns["weights"], rows)
    row_checks.check_sources(columns["sources"], rows)
    row_checks.check_metadata(columns["metadata"], rows, {})


def check_labels(estimator: BaseEstimator, X: Any, y: Any) -> NDArray[Any]:
    """Return labels, one per row of X: int64, or an object array of str.

    Booleans and floats without a fraction are integers.

    Raises:
        InvalidLabel: Mixed or unsupported types, or numbers with a fraction.
        LengthMismatch: Not one per row.
        NonFinite: NaN or infinity.
    """
    column = _column(estimator, X, y)
    if column.dtype.kind in "ib":
        return column.astype(np.int64)
    if column.dtype.kind == "f":
        return _whole_numbers(column)
    labels = [_plain_label(label) for label in column.tolist()]
    kinds = {type(label) for label in labels}
    if float in kinds and kinds <= {int, float}:
        return _whole_numbers(np.array(labels, np.float64))
    if kinds not in ({str}, {int}):
        raise InvalidLabel(
            "Unknown label type: labels must be all text or all integers",
            expected="str, or int",
            got=", ".join(sorted(kind.__name__ for kind in kinds)),
            remedy="Convert them first, for example with [str(label) for label in y].",
        )
    return np.array(labels, object)


def as_text(labels: Any) -> NDArray[Any]:
    r"""Return labels as an array: text in NumPy's own type for it, integers as they are.

    That type drops NUL at the end of a text, and two names would become one: such labels stay
    objects.

    Args:
        labels: A list, or an array: all text or all integers.

    Example:
        >>> as_text(["crow", "owl"]).dtype.kind, as_text(["crow", "crow\0"]).dtype.kind
        ('U', 'O')
    """
    given = labels if isinstance(labels, np.ndarray) else np.array(labels, object)
    if given.dtype != object:
        return given
    plain = given.tolist()
    if any(isinstance(each, str) and each.endswith("\0") for each in plain):
        return given
    return np.array(plain) if plain and isinstance(plain[0], int) else given.astype(str)


def check_numbers(estimator: BaseEstimator, X: Any, y: Any) -> Doubles:
    """Return float64 targets, one per row of X: ``(rows,)`` or ``(rows, width)``.

    Raises:
        LengthMismatch: Not one per row.
        NonFinite: NaN or infinity.
        InputError: Not numbers.
    """
    _require_target(estimator, y)
    with in_our_words():
        targets = check_array(
            y, ensure_2d=False, dtype=np.float64, input_name="y", estimator=estimator
        )
        check_consistent_length(X, targets)
        if targets.ndim == 2 and targets.shape[1] == 1:
            targets = column_or_1d(targets, warn=True)
    return np.asarray(targets)


def _column(estimator: BaseEstimator, X: Any, y: Any) -> NDArray[Any]:
    _require_target(estimator, y)
    with in_our_words():
        # A list of mixed types would silently become text.
        given = np.array(y, object) if isinstance(y, list | tuple) else y
        column = np.asarray(column_or_1d(given, warn=True))
        check_consistent_length(X, column)
    return column


def _require_target(estimator: BaseEstimator, y: Any) -> None:
    if y is None:
        raise InputError(
            f"This {type(estimator).__name__} estimator requires y to be passed, but the target y "
            "is None",
            remedy="Pass one target for each row of X.",
        )


def _whole_numbers(column: NDArray[Any]) -> NDArray[np.int64]:
    if not np.isfinite(column).all():
        raise NonFinite(
            f"Input y contains {'NaN' if np.isnan(column).any() else 'infinity'}",
            expected="labels",
            remedy="Remove rows without a label first.",
        )
    whole = column.astype(np.int64)
    if not np.array_equal(whole, column):
        raise InvalidLabel(
            "Unknown label type: continuous",
            expected="labels: text or whole numbers",
            got="numbers with a fraction",
            remedy="Use MemoryRegressor for numbers.",
        )
    return whole


def _plain_label(label: Any) -> Any:
    plain = label.item() if isinstance(label, np.generic) else label
    if isinstance(plain, bool) or (isinstance(plain, float) and plain.is_integer()):
        return int(plain)
    return str(plain) if isinstance(plain, str) else plain
